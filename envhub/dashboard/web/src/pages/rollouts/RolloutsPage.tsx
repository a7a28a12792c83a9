import { Columns3, Download } from 'lucide-react'
import { useEffect, useState } from 'react'

import { query } from '../../api/client'
import { useLive } from '../../api/live'
import { useApi } from '../../api/queries'
import { download } from '../../api/request'
import type { RolloutFilters, RolloutPage } from '../../api/types'
import { useKeys } from '../../shell/keys'
import { PageHead } from '../../shell/PageHead'
import { navigate, rolloutUrl, usePlace } from '../../shell/router'
import { keepTrail } from '../../shell/trail'
import { count, plural } from '../../text/format'
import { Menu } from '../../ui/Menu'
import { Notice, Ready } from '../../ui/Notice'
import { COLUMNS, namedColumns, shownColumns } from './columns'
import { FacetPanel } from './FacetPanel'
import { FilterBar } from './FilterBar'
import { filtersOf, LIMIT } from './filters'
import { RolloutTable } from './RolloutTable'

export function RolloutsPage() {
  const place = usePlace()
  useLive(`/api/events${query({ run: place.get('run') })}`)
  const filters = filtersOf(place.search)
  const asked = useApi(
    '/api/rollouts',
    { ...filters, limit: LIMIT, cursor: place.get('cursor') },
    { keep: true, unfinished: ({ search }) => search !== null && search.indexed < search.of },
  )
  return (
    <>
      <PageHead
        title="Rollouts"
        actions={
          <>
            <ColumnMenu />
            <ExportMenu filters={filters} />
          </>
        }
      />
      <FilterBar />
      <FacetPanel filters={filters} />
      <Ready of={asked} what="rollouts">
        {(page) => <List page={page} />}
      </Ready>
    </>
  )
}

function List({ page }: { page: RolloutPage }) {
  const place = usePlace()
  const [selected, setSelected] = useState<ReadonlySet<string>>(new Set())
  const { rollouts, next_cursor: next, total, search } = page
  const current = place.get('at') === '' ? -1 : Math.min(Number(place.get('at')), rollouts.length - 1)
  const first = place.get('cursor') === ''
  useEffect(() =>
    keepTrail(
      place.with({}),
      rollouts.map((rollout) => rollout.rollout_id),
    ),
  )
  const select = (id: string) => {
    const now = new Set(selected)
    if (!now.delete(id)) now.add(id)
    setSelected(now)
  }
  const compare = () => navigate(`/compare${query({ ids: [...selected].join(',') })}`)
  const toNext = () => next && navigate(place.with({ cursor: next, at: '' }))
  useKeys('List', [
    { keys: 'j', does: 'Next line', run: () => place.set({ at: String(Math.min(current + 1, rollouts.length - 1)) }) },
    { keys: 'k', does: 'Previous line', run: () => place.set({ at: String(Math.max(current - 1, 0)) }) },
    {
      keys: 'Enter',
      does: 'Open the line',
      run: () => rollouts[current] && navigate(rolloutUrl(rollouts[current].rollout_id)),
    },
    {
      keys: 'x',
      does: 'Select the line to compare',
      run: () => rollouts[current] && select(rollouts[current].rollout_id),
    },
    { keys: 'c', does: 'Compare what is selected', run: () => selected.size > 1 && compare() },
    { keys: 'n', does: 'Next page', run: () => void toNext() },
  ])
  if (total === 0) return <Notice title="No rollout matches">{search && <Indexing of={search} />}</Notice>
  return (
    <>
      <RolloutTable rollouts={rollouts} current={current} selected={selected} onSelect={select} />
      <div className="list-foot">
        <span role="status">
          {plural(total, 'rollout')}
          {search && <Indexing of={search} />}
        </span>
        {selected.size > 0 && (
          <>
            <button className="quiet" onClick={() => setSelected(new Set())}>
              Clear selection
            </button>
            <button className="primary" disabled={selected.size < 2} onClick={compare}>
              Compare {count(selected.size)}
            </button>
          </>
        )}
        {!first && <button onClick={() => history.back()}>Newer</button>}
        <button disabled={!next} onClick={toNext}>
          {first || next ? 'Next page' : 'Last page'}
        </button>
      </div>
    </>
  )
}

function Indexing({ of }: { of: { indexed: number; of: number } }) {
  if (of.indexed >= of.of) return null
  return (
    <span className="warn">
      {' '}
      so far: {count(of.indexed)} of {count(of.of)} have been searched
    </span>
  )
}

function ColumnMenu() {
  const place = usePlace()
  const shown = shownColumns(place.get('columns'))
  const toggle = (id: string) => {
    const ids = COLUMNS.map((column) => column.id).filter((one) => shown.includes(one) !== (one === id))
    place.set({ columns: namedColumns(ids) })
  }
  return (
    <Menu
      label="Columns"
      trigger={
        <>
          <Columns3 size={15} aria-hidden /> Columns
        </>
      }
      items={COLUMNS.map(({ id, label }) => ({ id, label, checked: shown.includes(id), onSelect: () => toggle(id) }))}
    />
  )
}

function ExportMenu({ filters }: { filters: RolloutFilters }) {
  const { sort: _, descending: __, limit: ___, cursor: ____, ...wanted } = filters
  const save = (format: string) => void download(`/api/rollouts/export.${format}${query(wanted)}`, `rollouts.${format}`)
  return (
    <Menu
      label="Export what matches"
      trigger={
        <>
          <Download size={15} aria-hidden /> Export
        </>
      }
      items={[
        { id: 'parquet', label: 'Parquet, a column a fact', onSelect: () => save('parquet') },
        { id: 'jsonl', label: 'JSON lines', onSelect: () => save('jsonl') },
      ]}
    />
  )
}
