export type * from './types.ts';
export {
  createFrameScanner,
  dataStart,
  type FrameListener,
  type FrameScanner,
  type FrameShape,
  frameShape,
  MAX_FRAME_BYTES,
  readFrame,
  type ServerSentEvent,
} from './sse.ts';
export { faultOfFrame, providerFault } from './fault.ts';
export { openAiCompatible } from './openai-compatible.ts';
export { anthropic } from './anthropic/provider.ts';
export { extractive, type ExtractiveProvider, type ExtractiveSettings } from './extractive/extractive.ts';
export { playScript, scripted, type ScriptedDeps, type ScriptedProvider } from './scripted/scripted.ts';
export { loadScript, parseScript, type Script } from './scripted/script.ts';
