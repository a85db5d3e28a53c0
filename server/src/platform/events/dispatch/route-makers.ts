import type * as http from '#http';

/** What makes routes; handed in, since this folder lies beside the one that has it. */
export type RouteMakers = Pick<typeof http, 'operatorRoute' | 'tenantRoute' | 'creatingOperatorRoute'>;
