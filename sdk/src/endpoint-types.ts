import type { Endpoint } from '@stoa/contracts';
import type { z } from 'zod';
import type { QueryInput } from './transport.ts';

/** What an endpoint answers with. */
export type ResultOf<Declared> =
  Declared extends Endpoint<z.ZodType, z.ZodType, z.ZodType, infer Output> ? Output : never;

/** What is sent to an endpoint, before the server fills defaults in. */
export type BodyOf<Declared> =
  Declared extends Endpoint<z.ZodType, z.ZodType, infer Body> ? z.input<Body> : never;

/** What can be asked of a list. */
export type QueryOf<Declared> = Declared extends Endpoint<z.ZodType, infer Query> ? QueryInput<Query> : never;
