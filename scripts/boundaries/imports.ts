/** Every way in which a TypeScript file can pull in another, found in its syntax tree. */
import type { Node } from 'oxc-parser';
import { lineOf, parseFile, type Source, walk } from '../syntax.ts';

export interface Import {
  line: number;
  /** As written; undefined where it is computed at run time. */
  specifier: string | undefined;
  /** True when nothing of it is left at run time. `import { type A }` still loads the file, so it is false there. */
  isTypeOnly: boolean;
  /** The names that are taken; undefined where it is the whole module. */
  names: readonly string[] | undefined;
}

type Found = { source: Node | undefined; isTypeOnly: boolean; names?: readonly string[] | undefined };

function literalOf(node: Node | undefined): string | undefined {
  if (node?.type === 'Literal' && typeof node.value === 'string') return node.value;
  if (node?.type === 'TemplateLiteral' && node.expressions.length === 0) {
    return node.quasis[0]?.value.cooked ?? undefined;
  }
  return undefined;
}

/** `require(x)`, `require.resolve(x)`, `import.meta.resolve(x)`: a loader that is called like a function. */
function isLoaderCall(node: Node): boolean {
  if (node.type !== 'CallExpression') return false;
  const { callee } = node;
  if (callee.type === 'Identifier') return callee.name === 'require';
  if (callee.type !== 'MemberExpression' || callee.property.type !== 'Identifier') return false;
  const { object, property } = callee;
  if (object.type === 'Identifier') return object.name === 'require' && property.name === 'resolve';
  return object.type === 'MetaProperty' && property.name === 'resolve';
}

/** The name of a specifier on the side that it is taken from. */
function takenName(node: Node): string | undefined {
  if (node.type === 'Identifier') return node.name;
  return literalOf(node);
}

/** `import { a, b as c }`: a and b. Undefined as soon as one of them stands for the whole module. */
function takenNames(specifiers: readonly Node[]): readonly string[] | undefined {
  const names = specifiers.map((specifier) => {
    if (specifier.type === 'ImportSpecifier') return takenName(specifier.imported);
    return specifier.type === 'ExportSpecifier' ? takenName(specifier.local) : undefined;
  });
  return names.every((name) => name !== undefined) && names.length > 0 ? names : undefined;
}

function importAt(node: Node): Found | undefined {
  switch (node.type) {
    case 'ImportDeclaration':
      return {
        source: node.source,
        isTypeOnly: node.importKind === 'type',
        names: takenNames(node.specifiers),
      };
    case 'ExportNamedDeclaration':
      return node.source === null
        ? undefined
        : {
            source: node.source,
            isTypeOnly: node.exportKind === 'type',
            names: takenNames(node.specifiers),
          };
    case 'ExportAllDeclaration':
      return { source: node.source, isTypeOnly: node.exportKind === 'type' };
    case 'ImportExpression':
      return { source: node.source, isTypeOnly: false };
    case 'TSImportType':
      return { source: node.source, isTypeOnly: true };
    case 'TSExternalModuleReference':
      return { source: node.expression, isTypeOnly: false };
    case 'CallExpression':
      return isLoaderCall(node) ? { source: node.arguments[0], isTypeOnly: false } : undefined;
    default:
      return undefined;
  }
}

/** All imports of one file: static, re-exports, dynamic, `require`, types by `import('x').T`. */
export function importsOf(path: string): Import[] {
  const source: Source = parseFile(path);
  const imports: Import[] = [];
  walk(source.program, (node) => {
    const found = importAt(node);
    if (!found) return;
    const { isTypeOnly, names } = found;
    imports.push({ line: lineOf(source, node.start), specifier: literalOf(found.source), isTypeOnly, names });
  });
  return imports;
}
