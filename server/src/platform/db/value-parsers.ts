/**
 * One translation between JavaScript values and PostgreSQL's text form, used by both adapters, so that a value comes
 * back the same whatever database runs below. Everything travels as text: the binary forms of `pg` and the parameter
 * serialisers of PGlite disagree in too many corners. This is the half that reads; value-encoder.ts writes.
 *
 * | SQL | JavaScript |
 * | --- | --- |
 * | int8 | bigint |
 * | int2, int4, oid, float4, float8 | number |
 * | numeric, xid8, uuid, text, varchar, time, timestamp, interval | string |
 * | date | 'YYYY-MM-DD' |
 * | timestamptz | Date, to the millisecond; infinity is the largest or smallest Date |
 * | bool | boolean |
 * | bytea | Uint8Array |
 * | json, jsonb | the parsed value |
 * | an array of these | an array, null where NULL |
 *
 * It imports nothing, because PGlite's thread loads it: the kernel, with every schema of the contracts behind it, would
 * add its 0.3 s of CPU to the start of that thread.
 */

export type ValueParser = (text: string) => unknown;

/** The largest Date stands for infinity, the smallest for -infinity. */
export const largestDateMs = 8_640_000_000_000_000;
const timestampPattern =
  /^(\d{4,})-(\d\d)-(\d\d) (\d\d:\d\d:\d\d)(?:\.(\d+))?([+-]\d\d)(?::?(\d\d))?(?::\d\d)?( BC)?$/;

function parseTimestamp(text: string): Date {
  if (text === 'infinity') return new Date(largestDateMs);
  if (text === '-infinity') return new Date(-largestDateMs);
  const match = timestampPattern.exec(text);
  if (match === null) throw new Error(`unreadable timestamptz: ${text}`);
  const [, year = '', month = '', day = '', time = '', fraction = '', hours = '', minutes = '00', isBefore] =
    match;
  const signedYear = isBefore === undefined ? Number(year) : 1 - Number(year);
  const sign = signedYear < 0 ? '-' : '+';
  const isoYear =
    signedYear >= 0 && signedYear <= 9999
      ? String(signedYear).padStart(4, '0')
      : `${sign}${String(Math.abs(signedYear)).padStart(6, '0')}`;
  return new Date(
    `${isoYear}-${month}-${day}T${time}.${fraction.slice(0, 3).padEnd(3, '0')}${hours}:${minutes}`,
  );
}

function parseBytes(text: string): Uint8Array {
  if (!text.startsWith('\\x')) throw new Error('bytea_output is not hex');
  return new Uint8Array(Buffer.from(text.slice(2), 'hex'));
}

function parseJson(text: string): unknown {
  const value: unknown = JSON.parse(text);
  return value;
}

const asText: ValueParser = (text) => text;

/** Element type, array type, parser: from pg_type, whose numbers for built-in types never change. */
const builtInTypes: readonly (readonly [number, number, ValueParser])[] = [
  [16, 1000, (text) => text === 't'],
  [17, 1001, parseBytes],
  [20, 1016, (text) => BigInt(text)],
  [21, 1005, Number],
  [23, 1007, Number],
  [25, 1009, asText],
  [26, 1028, Number],
  [114, 199, parseJson],
  [700, 1021, Number],
  [701, 1022, Number],
  [1042, 1014, asText],
  [1043, 1015, asText],
  [1082, 1182, asText],
  [1114, 1115, asText],
  [1184, 1185, parseTimestamp],
  [1700, 1231, asText],
  [2950, 2951, asText],
  [3802, 3807, parseJson],
  [5069, 271, asText],
];

/** Reads PostgreSQL's array text, `{a,"b,\"c",NULL,{…}}`, of any depth. */
function parseArray(text: string, parseElement: ValueParser): unknown[] {
  let position = text.indexOf('{');
  const readQuoted = (): string => {
    let value = '';
    position += 1;
    while (text[position] !== '"') {
      if (text[position] === '\\') position += 1;
      value += text[position] ?? '';
      position += 1;
      if (position > text.length) throw new Error('unreadable array');
    }
    position += 1;
    return value;
  };
  const readList = (): unknown[] => {
    const items: unknown[] = [];
    position += 1;
    while (text[position] !== '}') {
      const character = text[position];
      if (character === undefined) throw new Error('unreadable array');
      if (character === ',') position += 1;
      else if (character === '{') items.push(readList());
      else if (character === '"') items.push(parseElement(readQuoted()));
      else {
        const start = position;
        while (position < text.length && text[position] !== ',' && text[position] !== '}') position += 1;
        const bare = text.slice(start, position);
        items.push(bare === 'NULL' ? null : parseElement(bare));
      }
    }
    position += 1;
    return items;
  };
  return readList();
}

const parsersByType: ReadonlyMap<number, ValueParser> = new Map(
  builtInTypes.flatMap(([type, arrayType, parse]): [number, ValueParser][] => [
    [type, parse],
    [arrayType, (text) => parseArray(text, parse)],
  ]),
);

/** The parser of a type by its number in pg_type; text stays text where the type is not in the table above. */
export function parserOf(type: number): ValueParser {
  return parsersByType.get(type) ?? asText;
}

/** The same table for PGlite, which wants a record. */
export const pgliteParsers: Readonly<Record<number, ValueParser>> = Object.fromEntries(parsersByType);
