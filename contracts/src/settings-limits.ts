import type { SettingDeclaration } from './setting-declaration.ts';

/** Rate limits where nothing else is set, and how much a process takes on. */
export const limitSettings = [
  {
    name: 'STOA_LIMIT_REQUESTS_PER_MINUTE',
    section: 'limits',
    type: 'integer',
    min: 1,
    max: 1_000_000_000,
    default: null,
    sentence:
      'Requests per minute of each tenant that the operator set no limits for, a minute of them at once. By default no limit.',
  },
  {
    name: 'STOA_LIMIT_TOKENS_PER_MINUTE',
    section: 'limits',
    type: 'integer',
    min: 1,
    max: 1_000_000_000,
    default: null,
    sentence:
      'Tokens per minute, input and output together, of each tenant that the operator set no limits for. By default no limit.',
  },
  {
    name: 'STOA_LIMIT_ADDRESS_REQUESTS_PER_MINUTE',
    section: 'limits',
    type: 'integer',
    min: 1,
    max: 1_000_000_000,
    default: null,
    sentence:
      'Requests per minute of each client address (IPv6 by /64) of a tenant that the operator set no limits for. By default no limit.',
  },
  {
    name: 'STOA_UNKNOWN_KEYS_PER_MINUTE',
    section: 'limits',
    type: 'integer',
    min: 1,
    max: 1_000_000,
    default: '600',
    sentence:
      'Look-ups of credentials that turn out to be wrong, per minute and client address (IPv6 by /64), over all processes. What is beyond waits for one look-up of all each second, and is 429 where too many wait; keys that a process knows already pass always.',
  },
  {
    name: 'STOA_SHED_DELAY_MS',
    section: 'limits',
    type: 'duration',
    min: 0,
    max: 10_000,
    default: '25',
    sentence:
      'How long requests may wait for the event loop, lastingly, before new ones are refused with 503 `overloaded`: batch work at a third of it, agent steps at two thirds. 0 refuses none.',
  },
] as const satisfies readonly SettingDeclaration[];
