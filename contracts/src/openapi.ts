import document from './generated/openapi.json' with { type: 'json' };

/** OpenAPI 3.1 of every endpoint, as `npm run generate` wrote it; served at `/openapi.json`. */
export const openApiDocument: Readonly<Record<string, unknown>> = document;
