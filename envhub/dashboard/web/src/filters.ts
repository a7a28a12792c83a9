/** The filters of the list, as they stand in the page's URL: under the API's own names. */

import { query } from './api'

export interface Filters extends Record<string, string> {
  run: string
  environment: string
  status: string
  reward_min: string
  reward_max: string
  roots_only: string
  cursor: string
}

const NAMES = ['run', 'environment', 'status', 'reward_min', 'reward_max', 'roots_only', 'cursor'] as const

export function readFilters(search: URLSearchParams): Filters {
  return Object.fromEntries(NAMES.map((name) => [name, search.get(name) ?? ''])) as Filters
}

export const writeFilters = (filters: Filters): string => query(filters)
