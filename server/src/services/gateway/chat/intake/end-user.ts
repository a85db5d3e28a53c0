import { AppError } from '#kernel';
import type { Intake } from './intake.ts';

/**
 * Holds a request to the end user that its token is for: one that names none counts as that one's, one that names another
 * is refused, so that nobody spends or reads in another's name. Costs a comparison for callers without such a token.
 * @throws AppError `permission_denied`
 */
export function asEndUser(intake: Intake, fixed: string | undefined): Intake {
  if (fixed === undefined || intake.endUser === fixed) return intake;
  if (intake.endUser === null) return { ...intake, endUser: fixed };
  throw new AppError(
    'permission_denied',
    'The access token is for another end user than the request names.',
    {
      param: 'user',
    },
  );
}
