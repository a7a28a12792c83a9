import type { ReactNode } from 'react'

import type { RolloutFilters, RolloutSummary } from '../../api/types'
import { count, versions } from '../../text/format'
import { oneLine } from '../../text/visible'
import { Duration, Moment, Reward, StatusChip } from '../../ui/Facts'

export type Sort = NonNullable<RolloutFilters['sort']>

export interface Column {
  id: string
  label: string
  sort?: Sort
  number?: boolean
  wide?: boolean
  first?: boolean // in sight unless somebody hides it
  cell: (of: RolloutSummary, now: number) => ReactNode
}

export const COLUMNS: Column[] = [
  { id: 'status', label: 'Status', first: true, cell: (of) => <StatusChip of={of} /> },
  {
    id: 'reward',
    label: 'Reward',
    sort: 'reward',
    number: true,
    first: true,
    cell: (of) => <Reward value={of.reward} />,
  },
  { id: 'environment', label: 'Environment', first: true, wide: true, cell: (of) => oneLine(of.environment) },
  { id: 'task', label: 'Task', first: true, wide: true, cell: (of) => oneLine(of.task_id) },
  { id: 'policy', label: 'Policy', wide: true, cell: (of) => oneLine(of.policy_id) },
  {
    id: 'version',
    label: 'Version',
    sort: 'version',
    number: true,
    first: true,
    cell: (of) => versions(of.version_min, of.version_max),
  },
  { id: 'turns', label: 'Turns', sort: 'turns', number: true, first: true, cell: (of) => count(of.turns) },
  {
    id: 'sampled',
    label: 'Sampled',
    sort: 'sampled_tokens',
    number: true,
    first: true,
    cell: (of) => count(of.sampled_tokens),
  },
  { id: 'prompt', label: 'Prompt', sort: 'prompt_tokens', number: true, cell: (of) => count(of.prompt_tokens) },
  {
    id: 'duration',
    label: 'Duration',
    sort: 'duration',
    number: true,
    first: true,
    cell: (of, now) => <Duration of={of} now={now} />,
  },
  {
    id: 'started',
    label: 'Started',
    sort: 'started',
    number: true,
    first: true,
    cell: (of) => <Moment at={of.started_at} />,
  },
  {
    id: 'ended',
    label: 'Ended',
    sort: 'ended',
    number: true,
    cell: (of) => (of.ended_at === null ? '–' : <Moment at={of.ended_at} />),
  },
  { id: 'run', label: 'Run', wide: true, cell: (of) => of.run_id },
  { id: 'failure', label: 'Failure', wide: true, cell: (of) => oneLine(of.failure_message) },
]

const FIRST = COLUMNS.filter((column) => column.first).map((column) => column.id)

/** The columns in sight: those that the URL names, or the first. */
export function shownColumns(named: string): string[] {
  const ids = named ? named.split(',') : FIRST
  return COLUMNS.map((column) => column.id).filter((id) => ids.includes(id))
}

/** The URL's word for a choice of columns. */
export const namedColumns = (ids: string[]): string => (ids.join() === FIRST.join() ? '' : ids.join())
