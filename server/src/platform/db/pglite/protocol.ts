/** What passes between the process's main thread and the worker that PGlite runs in; all of it is cloneable. */

import type { EncodedParameter } from '../session.ts';
import type { SqlErrorFields } from '../sql-error.ts';

export interface WorkerSettings {
  /** PGlite's folder, or null for a database in memory. */
  readonly directory: string | null;
  /** A dumped data directory to load where the folder holds no database yet, or null. */
  readonly snapshot: Uint8Array | null;
}

export type WorkerRequest =
  | { readonly id: number; readonly kind: 'open'; readonly settings: WorkerSettings }
  | { readonly id: number; readonly kind: 'script'; readonly sql: string }
  | {
      readonly id: number;
      readonly kind: 'query';
      readonly sql: string;
      readonly parameters: readonly EncodedParameter[];
    }
  | { readonly id: number; readonly kind: 'dump' }
  | { readonly id: number; readonly kind: 'close' };

export interface WorkerAnswer {
  readonly rows: readonly unknown[];
  readonly affectedRows: number | null;
  readonly dump: Uint8Array | null;
}

export type WorkerReply =
  | { readonly kind: 'answer'; readonly id: number; readonly answer: WorkerAnswer }
  | {
      readonly kind: 'refusal';
      readonly id: number;
      readonly message: string;
      readonly fields: SqlErrorFields;
    };
