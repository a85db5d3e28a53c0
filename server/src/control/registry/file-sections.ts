import { isDeepStrictEqual } from 'node:util';
import type { ModelFileEntry, ProviderFileEntry } from '@stoa/contracts';
import type { Database, OperatorHandle } from '#db';
import { AppError, type Clock, newUuid, type Sealer } from '#kernel';
import { openHeaders, reservedProviderNames, sealPlace } from './connections.ts';
import { auditedModel, auditedModelId } from './models.ts';
import { auditedProvider, auditedProviderId, defaultBaseUrlOf, lastFourOf } from './providers.ts';
import {
  insertModel,
  insertProvider,
  lockState,
  selectModels,
  selectProviders,
  updateModel,
  updateProvider,
} from './registry.sql.ts';
import type { ModelRow, ModelValues, ProviderRow, ProviderValues } from './rows.ts';
import type { ApplyReport, FileSections } from './types.ts';

/**
 * Applies the sections `providers` and `models` of stoa.yaml: what is new is added, what differs is changed, what an
 * earlier file held and this one doesn't is disabled. Nothing is written where the tables say the same already, so the
 * start of a process changes nothing.
 */
export interface ApplyDeps {
  readonly db: Database;
  readonly sealer: Sealer;
  readonly clock: Clock;
  /** The value of an environment variable that an entry names by `api_key_env`. */
  readEnvironment(name: string): string | undefined;
}

type Change = (tx: OperatorHandle) => Promise<unknown>;
interface Plan {
  readonly report: ApplyReport;
  readonly changes: readonly Change[];
}

const by = { operator: 'system:configuration-file' };

export async function applySections(deps: ApplyDeps, sections: FileSections): Promise<ApplyReport> {
  checkSections(deps, sections);
  const credentials = sections.providers.map((entry) => credentialOf(deps, entry));
  const isCurrent = await deps.db.withSystem('registry', async (tx) => {
    const plan = planOf(deps, sections, credentials, await selectProviders(tx), await selectModels(tx));
    return plan.changes.length === 0;
  });
  if (isCurrent) return { added: 0, changed: 0, disabled: 0 };
  return deps.db.withOperator(by, 'registry.apply', async (tx) => {
    // Under the lock the plan is made again: another process may have applied the same file meanwhile.
    await lockState(tx);
    const plan = planOf(deps, sections, credentials, await selectProviders(tx), await selectModels(tx));
    for (const change of plan.changes) await change(tx);
    return plan.report;
  });
}

/** One thing that is wrong with an entry: where it stands in the file, what, and what is expected instead. */
export interface SectionFault {
  readonly path: readonly [section: 'providers' | 'models', index: number, member: string];
  readonly wrong: string;
  readonly expected: string;
}

/**
 * Every contradiction of entries whose shapes are good: names that stand twice or are taken, models of no provider,
 * secrets that are given twice or not there. Pure; an empty list means that they can be applied.
 * @param readEnvironment the value of an environment variable that an entry names by `api_key_env`
 */
export function sectionFaults(
  { providers, models }: FileSections,
  readEnvironment: (name: string) => string | undefined,
): SectionFault[] {
  const faults: SectionFault[] = [];
  const names = new Set<string>();
  for (const [index, entry] of providers.entries()) {
    for (const { member, ...fault } of providerFaults(entry, names, readEnvironment)) {
      faults.push({ path: ['providers', index, member], ...fault });
    }
    names.add(entry.name);
  }
  const targets = new Set<string>();
  for (const [index, { id, provider }] of models.entries()) {
    if (targets.has(id)) {
      faults.push({
        path: ['models', index, 'id'],
        wrong: `the id ${id} stands twice`,
        expected: 'each id once',
      });
    }
    if (!names.has(provider)) {
      const wrong = `there is no provider ${provider} in the file`;
      faults.push({
        path: ['models', index, 'provider'],
        wrong,
        expected: 'the name of an entry of `providers`',
      });
    }
    targets.add(id);
  }
  return faults;
}

interface MemberFault {
  readonly member: keyof ProviderFileEntry;
  readonly wrong: string;
  readonly expected: string;
}

function providerFaults(
  { name, kind, base_url: baseUrl, api_key: key, api_key_env: variable }: ProviderFileEntry,
  namesBefore: ReadonlySet<string>,
  readEnvironment: (name: string) => string | undefined,
): MemberFault[] {
  const faults: MemberFault[] = [];
  const add = (member: MemberFault['member'], wrong: string, expected: string): void => {
    faults.push({ member, wrong, expected });
  };
  if (namesBefore.has(name)) add('name', `the name ${name} stands twice`, 'each name once');
  if (reservedProviderNames.has(name)) add('name', `the name ${name} is taken by Stoa`, 'another name');
  if (baseUrl === undefined && defaultBaseUrlOf(kind) === null) {
    add('base_url', 'it is missing', `a URL, which the kind ${kind} needs`);
  }
  if (variable === undefined) return faults;
  if (key !== undefined) add('api_key_env', 'api_key is given too', 'one of the two');
  else if (!readEnvironment(variable)?.trim()) {
    add('api_key_env', `the environment variable ${variable} is not set`, 'one that holds the credential');
  }
  return faults;
}

function checkSections(deps: ApplyDeps, sections: FileSections): void {
  const faults = sectionFaults(sections, (name) => deps.readEnvironment(name));
  const [first] = faults;
  if (!first) return;
  const lines = faults.map(
    ({ path, wrong, expected }) => `${placeOf(path)}: ${wrong}; expected ${expected}.`,
  );
  throw new AppError('invalid_configuration', lines.join('\n'), { param: placeOf(first.path) });
}

/** `models[2].provider` */
function placeOf([section, index, member]: SectionFault['path']): string {
  return `${section}[${index}].${member}`;
}

/** Of an entry without faults. */
function credentialOf(deps: ApplyDeps, entry: ProviderFileEntry): string | null {
  if (entry.api_key_env === undefined) return entry.api_key ?? null;
  return deps.readEnvironment(entry.api_key_env)?.trim() ?? null;
}

function planOf(
  deps: ApplyDeps,
  sections: FileSections,
  credentials: readonly (string | null)[],
  providerRows: readonly ProviderRow[],
  modelRows: readonly ModelRow[],
): Plan {
  const report = { added: 0, changed: 0, disabled: 0 };
  const changes: Change[] = [];
  const createdAt = new Date(deps.clock.now());
  const ids = new Map<string, string>();
  const ofFile = new Map(providerRows.filter((row) => row.source === 'file').map((row) => [row.name, row]));

  for (const [index, entry] of sections.providers.entries()) {
    const row = ofFile.get(entry.name);
    const providerId = row?.provider_id ?? newUuid();
    ids.set(entry.name, providerId);
    const values = providerValues(deps, entry, credentials[index] ?? null, providerId, row);
    if (!row) {
      report.added++;
      changes.push(async (tx) => {
        const made = await insertProvider(tx, { providerId, source: 'file', createdAt }, values);
        await auditProvider(tx, null, made);
      });
    } else if (!holds(row, values)) {
      report.changed++;
      changes.push(async (tx) => auditProvider(tx, row, await updateProvider(tx, providerId, values)));
    }
  }
  const modelsOfFile = new Map(
    modelRows.filter((row) => row.source === 'file').map((row) => [row.target, row]),
  );
  for (const entry of sections.models) {
    const row = modelsOfFile.get(entry.id);
    const values = modelValues(entry, ids.get(entry.provider) ?? '');
    if (!row) {
      report.added++;
      changes.push(async (tx) => {
        const made = await insertModel(tx, { modelId: newUuid(), source: 'file', createdAt }, values);
        await auditModel(tx, null, made);
      });
    } else if (!holds(row, values)) {
      report.changed++;
      changes.push(async (tx) => auditModel(tx, row, await updateModel(tx, row.model_id, values)));
    }
  }
  disableMissing(sections, [...ofFile.values()], [...modelsOfFile.values()], changes, report);
  return { report, changes };
}

function disableMissing(
  sections: FileSections,
  providers: readonly ProviderRow[],
  models: readonly ModelRow[],
  changes: Change[],
  report: { disabled: number },
): void {
  const names = new Set(sections.providers.map((entry) => entry.name));
  const targets = new Set(sections.models.map((entry) => entry.id));
  for (const row of models) {
    if (targets.has(row.target) || !row.is_enabled) continue;
    report.disabled++;
    const values = { ...row, is_enabled: false };
    changes.push(async (tx) => auditModel(tx, row, await updateModel(tx, row.model_id, values)));
  }
  for (const row of providers) {
    if (names.has(row.name) || !row.is_enabled) continue;
    report.disabled++;
    // What is out of use keeps no secret.
    const values = { ...row, is_enabled: false, credential_sealed: null, credential_last_four: null };
    const bare = { ...values, headers_sealed: null, header_names: [] };
    changes.push(async (tx) => auditProvider(tx, row, await updateProvider(tx, row.provider_id, bare)));
  }
}

async function auditProvider(
  tx: OperatorHandle,
  before: ProviderRow | null,
  after: ProviderRow,
): Promise<void> {
  await tx.audit({
    action: before === null ? 'providers.create' : 'providers.change',
    resource: auditedProviderId(after),
    ...(before === null ? {} : { before: auditedProvider(before) }),
    after: auditedProvider(after),
  });
}

async function auditModel(tx: OperatorHandle, before: ModelRow | null, after: ModelRow): Promise<void> {
  await tx.audit({
    action: before === null ? 'control_models.create' : 'control_models.change',
    resource: auditedModelId(after),
    ...(before === null ? {} : { before: auditedModel(before) }),
    after: auditedModel(after),
  });
}

/** Whether the row says already what the values say. */
function holds(row: object, values: object): boolean {
  const held = new Map(Object.entries(row));
  return Object.entries(values).every(([name, value]) => isDeepStrictEqual(held.get(name), value));
}

/** Secrets that are the same as before keep their record, so that an unchanged entry is an unchanged row. */
function providerValues(
  deps: ApplyDeps,
  entry: ProviderFileEntry,
  credential: string | null,
  providerId: string,
  row: ProviderRow | undefined,
): ProviderValues {
  const baseUrl = entry.base_url ?? defaultBaseUrlOf(entry.kind) ?? '';
  const before = row ? secretsOf(deps.sealer, row) : null;
  const isSameCredential = before !== null && before.credential === credential && row !== undefined;
  const isSameHeaders =
    before !== null && isDeepStrictEqual(before.headers, entry.headers) && row !== undefined;
  const seal = (column: 'credential' | 'headers', text: string): string =>
    deps.sealer.seal(text, sealPlace(column, providerId));
  const headerNames = Object.keys(entry.headers);
  const sealedHeaders = headerNames.length === 0 ? null : seal('headers', JSON.stringify(entry.headers));
  const sealedCredential = credential === null ? null : seal('credential', credential);
  return {
    name: entry.name,
    kind: entry.kind,
    base_url: baseUrl,
    credential_sealed: isSameCredential ? row.credential_sealed : sealedCredential,
    credential_last_four: lastFourOf(credential),
    credential_id:
      isSameCredential && isSameHeaders && row.base_url === baseUrl ? row.credential_id : newUuid(),
    headers_sealed: isSameHeaders ? row.headers_sealed : sealedHeaders,
    header_names: headerNames,
    max_concurrency: entry.max_concurrency,
    discover: entry.discover,
    is_enabled: true,
  };
}

/** What a row's secrets say, or null where they don't open under the present master key. */
function secretsOf(sealer: Sealer, row: ProviderRow) {
  try {
    const sealed = row.credential_sealed;
    const credential = sealed === null ? null : sealer.open(sealed, sealPlace('credential', row.provider_id));
    return { credential, headers: openHeaders(sealer, row) };
  } catch {
    return null;
  }
}

function modelValues(entry: ModelFileEntry, providerId: string): ModelValues {
  return {
    target: entry.id,
    provider_id: providerId,
    provider_model: entry.model ?? entry.id,
    kind: entry.kind,
    context_tokens: entry.context_tokens ?? null,
    max_output_tokens: entry.max_output_tokens ?? null,
    whole_ms: entry.deadlines.whole_ms ?? null,
    first_frame_ms: entry.deadlines.first_frame_ms ?? null,
    between_frames_ms: entry.deadlines.between_frames_ms ?? null,
    price_provider: entry.price_as?.provider ?? null,
    price_model: entry.price_as?.model ?? null,
    is_enabled: true,
  };
}
