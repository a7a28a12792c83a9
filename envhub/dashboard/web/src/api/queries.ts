/** What the API answers, kept up to date while a page shows it. */

import { keepPreviousData, useQuery, type UseQueryResult } from '@tanstack/react-query'

import { get, type Answer, type GetPath, type Parameters } from './client'
import type { ApiError } from './request'

interface Options<T> {
  unfinished?: (answer: T) => boolean // asks again until it is not
  enabled?: boolean
  keep?: boolean // shows the answer before while the one to other parameters is on its way
}

const AGAIN_MS = 1000

export function useApi<P extends GetPath>(
  path: P,
  values: Parameters<P>,
  { enabled = true, keep = false, unfinished }: Options<Answer<P>> = {},
): UseQueryResult<Answer<P>, ApiError> {
  return useQuery<Answer<P>, ApiError>({
    queryKey: [path, values],
    queryFn: ({ signal }) => get(path, values, signal),
    enabled,
    ...(keep && { placeholderData: keepPreviousData }),
    ...(unfinished && {
      refetchInterval: ({ state: { data } }) => (data !== undefined && unfinished(data) ? AGAIN_MS : false),
    }),
  }) as UseQueryResult<Answer<P>, ApiError>
}
