/**
 * Money. A price is integer femto-dollars (1e-15 USD) per token, so a cost is an exact sum of products of integers.
 * The only rounding is here, once, half to even, when a price's decimal text is imported. No float ever holds money.
 */

/** Integer femto-dollars. */
export type Femto = bigint;

const decimalPattern = /^([+-]?)(\d+)(?:\.(\d*))?(?:[eE]([+-]?\d{1,3}))?$/;
const femtoDigits = 15;

/**
 * Femto-dollars per single token from the decimal text of a price in USD per `perTokens` tokens.
 * @param text decimal text such as `0.15` or `1.5e-7`; never a float
 * @param perTokens how many tokens the price is for, a power of ten (1, 1_000, 1_000_000)
 * @throws RangeError where the text is no decimal number or `perTokens` is no power of ten
 */
export function femtoPerToken(text: string, perTokens = 1): Femto {
  const match = decimalPattern.exec(text.trim());
  const power = /^1(0*)$/.exec(String(perTokens));
  if (!match || !power) throw new RangeError(`not a decimal price: ${text} per ${perTokens}`);
  const [, sign = '', whole = '', fraction = '', exponent = '0'] = match;
  const shift = femtoDigits - fraction.length + Number(exponent) - (power[1] ?? '').length;
  const digits = BigInt(whole + fraction);
  const magnitude =
    shift >= 0 ? digits * 10n ** BigInt(shift) : divideHalfEven(digits, 10n ** BigInt(-shift));
  return sign === '-' ? -magnitude : magnitude;
}

/** Quotient of two non-negative integers, rounded half to even. */
export function divideHalfEven(dividend: bigint, divisor: bigint): bigint {
  const quotient = dividend / divisor;
  const twice = (dividend % divisor) * 2n;
  if (twice > divisor || (twice === divisor && quotient % 2n === 1n)) return quotient + 1n;
  return quotient;
}

/** Exact decimal text in USD of an amount in femto-dollars, without trailing zeros: `150000000n` is `0.00000015`. */
export function femtoToDecimal(amount: Femto): string {
  const sign = amount < 0n ? '-' : '';
  const digits = (amount < 0n ? -amount : amount).toString().padStart(femtoDigits + 1, '0');
  const whole = digits.slice(0, -femtoDigits);
  const fraction = digits.slice(-femtoDigits).replace(/0+$/, '');
  return fraction ? `${sign}${whole}.${fraction}` : `${sign}${whole}`;
}
