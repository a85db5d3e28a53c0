/** Without it, commands about a tenant's own things speak as the tenant itself; with it, as the operator. */
export const ofTenant = [
  '--tenant <tenant>',
  "as the operator, a tenant's: ten_... (default: your own tenant's)",
] as const;
