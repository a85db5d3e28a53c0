import { isUniqueViolation } from '#db';
import { AppError } from '#kernel';

/**
 * Runs work that writes a row which must be the only one of its name, and says by name what is taken.
 * @throws AppError `already_exists`
 */
export async function namingTaken<T>(
  { param, message }: { readonly param: string; readonly message: string },
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!isUniqueViolation(error)) throw error;
    throw new AppError('already_exists', message, { param, cause: error });
  }
}
