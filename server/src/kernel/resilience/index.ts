export { BoundedMap } from './bounded-map.ts';
export { Bulkhead } from './bulkhead.ts';
export {
  CircuitBreaker,
  type CircuitBreakerSettings,
  type CircuitStateName,
  defaultCircuitBreakerSettings,
  type Permit,
} from './circuit-breaker.ts';
export { RetryBudget, type RetryBudgetSettings } from './retry-budget.ts';
