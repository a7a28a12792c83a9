import { query } from '../api'
import { FilterBar } from '../components/FilterBar'
import { LiveDot } from '../components/Facts'
import { Loading, Notice, Problem } from '../components/Notice'
import { RolloutTable } from '../components/RolloutTable'
import { RunPanel } from '../components/RunPanel'
import { readFilters, writeFilters, type Filters } from '../filters'
import { count, plural } from '../format'
import { useApi, useLive, useTitle } from '../hooks'
import { navigate, usePlace } from '../router'
import type { RolloutPage, Run } from '../types'

const PAGE_SIZE = 50

export function RolloutsPage() {
  useTitle('Rollouts')
  const filters = readFilters(usePlace().search)
  const { generation, live } = useLive('/api/events')
  const runs = useApi<Run[]>('/api/runs', generation)
  const environments = useApi<string[]>(`/api/environments${query({ run: filters.run })}`, runs.data?.length ?? 0)
  const page = useApi<RolloutPage>(`/api/rollouts${query({ ...filters, limit: PAGE_SIZE })}`, generation)

  const error = runs.error ?? page.error
  if (error?.status === 401) return <Problem error={error} />
  const run = runs.data?.find((one) => one.run_id === filters.run) ?? (filters.run ? undefined : newest(runs.data ?? []))
  return (
    <>
      <div className="title">
        <h1>Rollouts</h1>
        <LiveDot state={live} />
      </div>
      {run && <RunPanel run={run} newestOf={filters.run ? 0 : (runs.data?.length ?? 0)} />}
      <FilterBar filters={filters} runs={runs.data ?? []} environments={environments.data ?? []} />
      {error && <Problem error={error} />}
      {page.data ? <Listing page={page.data} filters={filters} /> : !error && <Loading what="rollouts" />}
    </>
  )
}

/** The newest run that has something to show: a server that was only started to look around has nothing. */
function newest(runs: Run[]): Run | undefined {
  return runs.find((run) => run.submitted > 0) ?? runs[0]
}

function Listing({ page, filters }: { page: RolloutPage; filters: Filters }) {
  if (page.rollouts.length === 0) {
    const filtered = writeFilters(filters) !== ''
    return filtered ? (
      <Notice title="No rollout matches these filters">
        <button onClick={() => navigate('/')}>Clear all filters</button>
      </Notice>
    ) : (
      <Notice title="No rollouts yet">
        <p>They appear here as soon as a run that writes to this store starts them.</p>
      </Notice>
    )
  }
  return (
    <>
      <RolloutTable rollouts={page.rollouts} />
      <Pager page={page} filters={filters} />
    </>
  )
}

/** Cursors lead forward only, so the way back is kept with the history entry. */
function Pager({ page, filters }: { page: RolloutPage; filters: Filters }) {
  const state: unknown = history.state
  const trail: string[] = Array.isArray(state) ? state : []
  const go = (cursor: string, state: string[]) => {
    navigate(`/${writeFilters({ ...filters, cursor })}`, { state })
    window.scrollTo(0, 0)
  }
  const first = trail.length * PAGE_SIZE + 1
  const known = filters.cursor === '' || trail.length > 0
  return (
    <nav className="pager" aria-label="Pages of rollouts">
      <span className="muted">
        {known ? `${count(first)}–${count(first + page.rollouts.length - 1)} of ` : ''}
        {plural(page.total, 'rollout')}
      </span>
      <button disabled={filters.cursor === ''} onClick={() => go('', [])}>
        Newest
      </button>
      <button disabled={trail.length === 0} onClick={() => go(trail.at(-1) ?? '', trail.slice(0, -1))}>
        Previous
      </button>
      <button disabled={page.next_cursor === ''} onClick={() => go(page.next_cursor, [...trail, filters.cursor])}>
        Next
      </button>
    </nav>
  )
}
