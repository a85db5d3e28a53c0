/** What every module's factory returns beside its api; the composition reads it and nothing else. */
export interface HealthPart {
  readonly name: string;
  /** True where the dependency works. A lost one degrades readiness, it never ends it. */
  isHealthy(): boolean;
}

/** Long-lived work of a module. `start` resolves when ready; `stop` drains and then closes. */
export interface Lifecycle {
  start(): Promise<void>;
  stop(): Promise<void>;
}
