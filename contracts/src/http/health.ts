import { z } from 'zod';
import { endpoint } from '../endpoint.ts';

/** The four plain paths; none needs a credential. */

export const liveness = z.object({ status: z.literal('live') });
export type Liveness = z.infer<typeof liveness>;

export const readiness = z.object({
  status: z.literal('ready'),
  degraded: z
    .array(z.string())
    .describe('Names of the dependencies that are lost at the moment; empty when all is well'),
});
export type Readiness = z.infer<typeof readiness>;

export const getLiveness = endpoint({
  id: 'health.live',
  listener: 'public',
  method: 'GET',
  path: '/livez',
  summary: 'Whether the process runs',
  access: 'anyone',
  responses: { 200: { description: 'It runs', schema: liveness } },
  errors: [],
  idempotent: 'yes',
  example: {},
});

export const getReadiness = endpoint({
  id: 'health.ready',
  listener: 'public',
  method: 'GET',
  path: '/readyz',
  summary: 'Whether the process takes traffic; a lost dependency degrades it and does not end it',
  access: 'anyone',
  responses: { 200: { description: 'It takes traffic', schema: readiness } },
  errors: ['starting', 'draining', 'schema_behind', 'schema_ahead'],
  idempotent: 'yes',
  example: {},
});

export const getOpenapi = endpoint({
  id: 'openapi.read',
  listener: 'public',
  method: 'GET',
  path: '/openapi.json',
  summary: 'This API as an OpenAPI document',
  access: 'anyone',
  responses: { 200: { description: 'OpenAPI 3.1', schema: z.looseObject({ openapi: z.string() }) } },
  errors: [],
  idempotent: 'yes',
  example: {},
});

export const getMetrics = endpoint({
  id: 'metrics.read',
  listener: 'admin',
  method: 'GET',
  path: '/metrics',
  summary: 'Metrics in the text format of Prometheus',
  access: 'anyone',
  responses: { 200: { description: 'Metrics', contentType: 'text/plain; version=0.0.4; charset=utf-8' } },
  errors: [],
  idempotent: 'yes',
  example: {},
});
