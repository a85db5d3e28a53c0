/** One generated file. Each file in this folder but this one exports one or more; generate.ts finds them. */
export interface Generator {
  /** Below the root. */
  path: string;
  /** The whole content, always the same for the same sources. */
  produce: () => Promise<string>;
}
