export { createCall, type CallStart } from './call-context.ts';
export { codecService } from './codec-service.ts';
export { createDestinations, type Destinations } from './destinations.ts';
export { createForward, type ForwardDeps, type ForwardSettings } from './forward.ts';
export { createReceiver, type ReceiverDeps } from './receiver.ts';
export { remoteService, type RemoteDeps } from './remote.ts';
export { localService, serveApi } from './services.ts';
export {
  type ClusterSecrets,
  type ClusterSigner,
  type ClusterVerifier,
  createClusterSigner,
  createClusterVerifier,
  forwardedHeader,
} from './signature.ts';
export type * from './types.ts';
