/** The filters of the list, as they stand in the page's URL: under the API's own names. */

import type { RolloutFilters } from '../../api/types'

export const STATUSES = ['completed', 'truncated', 'failed', 'cancelled', 'running'] as const
export const BOUNDARIES = [
  'policy',
  'agent',
  'engine',
  'gateway',
  'tool',
  'sandbox',
  'judge',
  'environment',
  'operator',
] as const
export const NAMES = [
  'run',
  'environment',
  'policy',
  'status',
  'boundary',
  'version_min',
  'version_max',
  'reward_min',
  'reward_max',
  'task',
  'group',
  'text',
  'roots_only',
  'sort',
  'descending',
] as const

export type FilterName = (typeof NAMES)[number]
export const LIMIT = 50

/** What the API is asked for; what the URL leaves open stays open. */
export function filtersOf(search: URLSearchParams): RolloutFilters {
  const given = NAMES.flatMap((name) => (search.get(name) ? [[name, search.get(name)]] : []))
  return Object.fromEntries(given) as RolloutFilters
}
