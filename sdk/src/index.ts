export type { ChatCompletionChunk, ChatStream } from './chat-stream.ts';
export type { BodyOf, QueryOf, ResultOf } from './endpoint-types.ts';
export { type ClientErrorCode, StoaError, type StoaErrorFields } from './error.ts';
export type { Listing, Page } from './listing.ts';
export { createOperatorClient, type OperatorClient, type OperatorClientOptions } from './operator-client.ts';
export { createTenantClient, type TenantClient, type TenantClientOptions } from './tenant-client.ts';
export type { Answer, CallInput, CallOptions, QueryInput } from './transport.ts';
export {
  type VerifiedWebhook,
  verifyWebhook,
  WebhookError,
  type WebhookErrorCode,
  type WebhookMessage,
} from './webhook.ts';
