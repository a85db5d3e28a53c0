import type { Settings } from '@stoa/contracts';
import type { RoleSet } from './roles.ts';
import type { RunningProcess } from './serve.ts';

/** A few friendly lines for whoever started Stoa by hand. Production starts without them: its output is JSON lines only. */
export function printBanner(running: RunningProcess, settings: Settings, roles: RoleSet): void {
  if (settings.profile === 'production') return;
  process.stdout.write(`${bannerLines(running, settings, roles, process.stdout.isTTY).join('\n')}\n`);
}

/** `isTerminal` decides whether new keys are shown: only on a terminal, and only at the start that made them. */
export function bannerLines(
  {
    addresses,
    firstStart,
    autoAnswer,
    degraded,
  }: Pick<RunningProcess, 'addresses' | 'firstStart' | 'autoAnswer' | 'degraded'>,
  settings: Pick<Settings, 'dataDir'>,
  roles: RoleSet,
  isTerminal: boolean,
): string[] {
  const away = degraded();
  const lines = [
    '',
    `  Stoa is ready.`,
    ...(away.length > 0
      ? [`  It lacks        ${away.join(', ')}: away or not well; it goes on without`]
      : []),
    ...(roles.has('gateway') ? [`  Tenants call    ${addresses.baseUrl}/v1`] : []),
    ...(roles.has('control') ? [`  You operate it  ${addresses.adminUrl}/control/v1`] : []),
    `  Its state       ${addresses.baseUrl}/readyz, ${addresses.adminUrl}/metrics`,
    `  "auto" is       ${autoAnswer()}`,
    `  Keys are in     ${settings.dataDir}/credentials.json`,
  ];
  if (firstStart?.isNew && isTerminal) {
    const { operatorKey, demo } = firstStart.credentials;
    lines.push('', '  Shown once:', `  operator key    ${operatorKey}`);
    if (demo) lines.push(`  demo tenant     ${demo.tenantId}`, `  demo API key    ${demo.apiKey}`);
  }
  if (roles.has('gateway')) lines.push('', '  Try: npx stoa chat "How are tenants isolated?"');
  lines.push('');
  return lines;
}
