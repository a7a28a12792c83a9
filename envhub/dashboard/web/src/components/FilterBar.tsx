import { useEffect, useId, useState, type ReactNode } from 'react'

import { writeFilters, type Filters } from '../filters'
import { navigate } from '../router'
import { STATUSES, type Run } from '../types'

interface Props {
  filters: Filters
  runs: Run[]
  environments: string[]
}

export function FilterBar({ filters, runs, environments }: Props) {
  const set = (name: keyof Filters) => (value: string) =>
    navigate(`/${writeFilters({ ...filters, [name]: value, cursor: '' })}`)
  return (
    <form className="filters" role="search" aria-label="Filter rollouts" onSubmit={(event) => event.preventDefault()}>
      <Choice
        label="Run"
        all="All runs"
        value={filters.run}
        options={runs.map((run) => run.run_id)}
        onChange={set('run')}
      />
      <Choice
        label="Environment"
        all="All environments"
        value={filters.environment}
        options={environments}
        onChange={set('environment')}
      />
      <Choice label="Status" all="Any status" value={filters.status} options={[...STATUSES]} onChange={set('status')} />
      <div className="field" role="group" aria-labelledby="reward-range">
        <span id="reward-range">Reward</span>
        <div className="range">
          <NumberField label="Lowest reward" hint="min" value={filters.reward_min} onChange={set('reward_min')} />
          <span aria-hidden="true">to</span>
          <NumberField label="Highest reward" hint="max" value={filters.reward_max} onChange={set('reward_max')} />
        </div>
      </div>
      <label className="check">
        <input
          type="checkbox"
          checked={filters.roots_only === 'true'}
          onChange={(event) => set('roots_only')(event.target.checked ? 'true' : '')}
        />
        Roots only
      </label>
      {writeFilters({ ...filters, cursor: '' }) && (
        <button type="button" className="quiet" onClick={() => navigate('/')}>
          Clear
        </button>
      )}
    </form>
  )
}

function Choice(props: {
  label: string
  all: string
  value: string
  options: string[]
  onChange: (value: string) => void
}) {
  const { label, all, value, options, onChange } = props
  const known = value === '' || options.includes(value) ? options : [value, ...options]
  return (
    <Field label={label}>
      {(id) => (
        <select id={id} value={value} onChange={(event) => onChange(event.target.value)}>
          <option value="">{all}</option>
          {known.map((option) => (
            <option key={option}>{option}</option>
          ))}
        </select>
      )}
    </Field>
  )
}

function Field({ label, children }: { label: string; children: (id: string) => ReactNode }) {
  const id = useId()
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      {children(id)}
    </div>
  )
}

/** Takes effect when it is left or Enter is pressed, so that a half-typed number filters nothing. */
function NumberField(props: { label: string; hint: string; value: string; onChange: (value: string) => void }) {
  const { label, hint, value, onChange } = props
  const [text, setText] = useState(value)
  useEffect(() => setText(value), [value])
  const commit = () => {
    if (text !== value) onChange(text)
  }
  return (
    <input
      type="number"
      step="any"
      aria-label={label}
      placeholder={hint}
      value={text}
      onChange={(event) => setText(event.target.value)}
      onBlur={commit}
      onKeyDown={(event) => event.key === 'Enter' && commit()}
    />
  )
}
