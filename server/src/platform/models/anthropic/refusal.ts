/** Why a request in OpenAI's format has no counterpart in the Messages API. Thrown inside the translation only. */
export class Untranslatable extends Error {
  readonly code: 'unsupported_parameter' | 'invalid_value';
  readonly param: string;

  constructor(code: Untranslatable['code'], param: string, message: string) {
    super(message);
    this.code = code;
    this.param = param;
  }
}

/** @throws Untranslatable: the provider has nothing that would do what the parameter asks for. */
export function refuseUnsupported(param: string, message: string): never {
  throw new Untranslatable('unsupported_parameter', param, message);
}

/** @throws Untranslatable: the value is not of the type or range that OpenAI's format has. */
export function refuseInvalid(param: string, message: string): never {
  throw new Untranslatable('invalid_value', param, message);
}
