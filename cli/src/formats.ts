/** Numbers and times as people read them. */

/** A moment in UTC, to the second: `2026-01-31 09:05:00Z`. */
export function moment(timestamp: string | null): string {
  return timestamp === null ? '-' : `${timestamp.slice(0, 10)} ${timestamp.slice(11, 19)}Z`;
}

export function duration(milliseconds: number | null): string {
  if (milliseconds === null) return '-';
  if (milliseconds < 10) return `${milliseconds.toFixed(1)} ms`;
  if (milliseconds < 1_000) return `${Math.round(milliseconds)} ms`;
  return milliseconds < 60_000
    ? `${(milliseconds / 1_000).toFixed(2)} s`
    : `${(milliseconds / 60_000).toFixed(1)} min`;
}

export function count(value: number): string {
  return value.toLocaleString('en-US');
}

/** An exact amount in USD without its trailing zeros; `-` where it is unknown. */
export function amount(decimal: string | null): string {
  if (decimal === null) return '-';
  const text = decimal.includes('.') ? decimal.replace(/\.?0+$/, '') : decimal;
  return text.startsWith('-') ? `-$${text.slice(1)}` : `$${text}`;
}

/** A price per token as one per million tokens, exactly: the decimal point moves, nothing is computed. */
export function perMillion(decimal: string): string {
  const [whole = '0', fraction = ''] = decimal.split('.');
  const digits = fraction.padEnd(6, '0');
  const shifted = `${whole}${digits.slice(0, 6)}`.replace(/^(-?)0+(?=\d)/, '$1');
  return digits.length > 6 ? `${shifted}.${digits.slice(6)}` : shifted;
}

/** A count with its noun: `1 request`, `2 requests`. */
export function counted(value: number, noun: string): string {
  return `${count(value)} ${noun}${value === 1 ? '' : 's'}`;
}
