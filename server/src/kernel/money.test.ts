import assert from 'node:assert/strict';
import { test } from 'node:test';
import { divideHalfEven, femtoPerToken, femtoToDecimal } from './money.ts';

test('a price per million tokens becomes whole femto-dollars per token', () => {
  assert.equal(femtoPerToken('0.15', 1_000_000), 150_000_000n);
  assert.equal(femtoPerToken('2.5', 1_000_000), 2_500_000_000n);
  assert.equal(femtoPerToken('1.5e-7'), 150_000_000n);
  assert.equal(femtoPerToken('10'), 10_000_000_000_000_000n);
  assert.equal(femtoPerToken('-0.1', 1_000), -100_000_000_000n);
});

test('what is finer than a femto-dollar is rounded once, half to even', () => {
  assert.equal(femtoPerToken('0.0000000000000005'), 0n);
  assert.equal(femtoPerToken('0.0000000000000015'), 2n);
  assert.equal(femtoPerToken('0.0000000000000025'), 2n);
  assert.equal(femtoPerToken('0.00000000000000251'), 3n);
  assert.equal(divideHalfEven(7n, 2n), 4n);
  assert.equal(divideHalfEven(5n, 2n), 2n);
});

test('text that is no decimal number is refused', () => {
  for (const text of ['', 'NaN', 'Infinity', '1,5', '0x10', '1.2.3', '--1'])
    assert.throws(() => femtoPerToken(text), RangeError, text);
  assert.throws(() => femtoPerToken('1', 3), RangeError);
});

test('an amount is shown exactly', () => {
  assert.equal(femtoToDecimal(150_000_000n), '0.00000015');
  assert.equal(femtoToDecimal(0n), '0');
  assert.equal(femtoToDecimal(-1n), '-0.000000000000001');
  assert.equal(femtoToDecimal(12_000_000_000_000_000_000n), '12000');
});
