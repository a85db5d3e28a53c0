export { createTelemetry, type Telemetry, type TelemetrySettings } from './telemetry.ts';
export type * from './types.ts';
