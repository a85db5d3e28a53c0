import type { Settings } from '@stoa/contracts';
import type { RunningProcess } from './serve.ts';

/** A few friendly lines for whoever started Stoa by hand. Production starts without them: its output is JSON lines only. */
export function printBanner(running: RunningProcess, settings: Settings): void {
  if (settings.profile === 'production') return;
  process.stdout.write(`${bannerLines(running, settings, process.stdout.isTTY).join('\n')}\n`);
}

/** `isTerminal` decides whether new keys are shown: only on a terminal, and only at the start that made them. */
export function bannerLines(
  { addresses, firstStart, autoAnswer }: Pick<RunningProcess, 'addresses' | 'firstStart' | 'autoAnswer'>,
  settings: Pick<Settings, 'dataDir'>,
  isTerminal: boolean,
): string[] {
  const lines = [
    '',
    `  Stoa is ready.`,
    `  Tenants call    ${addresses.baseUrl}/v1`,
    `  You operate it  ${addresses.adminUrl}/control/v1   (metrics: ${addresses.adminUrl}/metrics)`,
    `  "auto" is       ${autoAnswer()}`,
    `  Keys are in     ${settings.dataDir}/credentials.json`,
  ];
  if (firstStart?.isNew && isTerminal) {
    const { operatorKey, demo } = firstStart.credentials;
    lines.push('', '  Shown once:', `  operator key    ${operatorKey}`);
    if (demo) lines.push(`  demo tenant     ${demo.tenantId}`, `  demo API key    ${demo.apiKey}`);
  }
  lines.push('', '  Try: npx stoa chat "How are tenants isolated?"', '');
  return lines;
}
