import { Search, X } from 'lucide-react'
import { useEffect, useRef, useState } from 'react'

import { useApi } from '../../api/queries'
import { useKeys } from '../../shell/keys'
import { navigate, usePlace } from '../../shell/router'
import { RunChoice } from '../../ui/RunChoice'
import { BOUNDARIES, NAMES, STATUSES, type FilterName } from './filters'

/** Everything that narrows the list. All of it stands in the URL. */
export function FilterBar() {
  const place = usePlace()
  const run = place.get('run')
  const environments = useApi('/api/environments', { run })
  const policies = useApi('/api/policies', { run })
  const set = (name: FilterName) => (value: string) => place.set({ [name]: value, cursor: '', at: '' })
  const filtered = NAMES.some((name) => place.get(name) && name !== 'sort' && name !== 'descending')
  const choice = (name: FilterName, label: string, all: string, options: readonly string[]) => (
    <Choice label={label} all={all} value={place.get(name)} options={options} onChange={set(name)} />
  )
  const range = (label: string, low: FilterName, high: FilterName) => (
    <span className="range" role="group" aria-label={label}>
      {label}
      <NumberField label={`Lowest ${label}`} hint="min" value={place.get(low)} onChange={set(low)} />
      <NumberField label={`Highest ${label}`} hint="max" value={place.get(high)} onChange={set(high)} />
    </span>
  )
  return (
    <form className="filters" role="search" aria-label="Filter rollouts" onSubmit={(event) => event.preventDefault()}>
      <SearchField value={place.get('text')} onChange={set('text')} />
      <RunChoice all="All runs" value={run} onChange={set('run')} />
      {choice('environment', 'Environment', 'All environments', environments.data ?? [])}
      {(policies.data?.length ?? 0) > 1 && choice('policy', 'Policy', 'All policies', policies.data!)}
      {choice('status', 'Status', 'Any status', STATUSES)}
      {choice('boundary', 'Boundary', 'Any boundary', BOUNDARIES)}
      {range('reward', 'reward_min', 'reward_max')}
      {range('version', 'version_min', 'version_max')}
      <label className="check">
        <input
          type="checkbox"
          checked={place.get('roots_only') === 'true'}
          onChange={(event) => set('roots_only')(event.target.checked ? 'true' : '')}
        />
        Roots only
      </label>
      {(['task', 'group'] as const).map(
        (name) =>
          place.get(name) && (
            <button
              key={name}
              type="button"
              onClick={() => set(name)('')}
              aria-label={`Remove ${name} ${place.get(name)}`}
            >
              {name} {place.get(name)} <X size={13} />
            </button>
          ),
      )}
      {filtered && (
        <button type="button" className="quiet" onClick={() => navigate(place.path)}>
          Clear
        </button>
      )}
    </form>
  )
}

function SearchField({ value, onChange }: { value: string; onChange: (value: string) => void }) {
  const input = useRef<HTMLInputElement>(null)
  useKeys('List', [{ keys: '/', does: 'Search in messages', run: () => input.current?.focus() }])
  const [text, commit, setText] = useDraft(value, onChange)
  return (
    <span className="search">
      <Search size={14} aria-hidden />
      <input
        ref={input}
        type="search"
        aria-label="Search in messages"
        placeholder="Search in messages"
        value={text}
        onChange={(event) => setText(event.target.value)}
        onBlur={commit}
        onKeyDown={(event) => {
          if (event.key === 'Enter') commit()
          if (event.key === 'Escape') input.current?.blur()
        }}
      />
      <kbd aria-hidden>/</kbd>
    </span>
  )
}

interface ChoiceProps {
  label: string
  all: string
  value: string
  options: readonly string[]
  onChange: (value: string) => void
}

function Choice({ label, all, value, options, onChange }: ChoiceProps) {
  const known = value === '' || options.includes(value) ? options : [value, ...options]
  return (
    <select aria-label={label} value={value} onChange={(event) => onChange(event.target.value)}>
      <option value="">{all}</option>
      {known.map((option) => (
        <option key={option}>{option}</option>
      ))}
    </select>
  )
}

function NumberField(props: { label: string; hint: string; value: string; onChange: (value: string) => void }) {
  const [text, commit, setText] = useDraft(props.value, props.onChange)
  return (
    <input
      type="number"
      step="any"
      aria-label={props.label}
      placeholder={props.hint}
      value={text}
      onChange={(event) => setText(event.target.value)}
      onBlur={commit}
      onKeyDown={(event) => event.key === 'Enter' && commit()}
    />
  )
}

/** What is typed takes effect when the field is left or Enter is pressed: a half-typed number filters nothing. */
function useDraft(value: string, onChange: (value: string) => void): [string, () => void, (text: string) => void] {
  const [text, setText] = useState(value)
  useEffect(() => setText(value), [value])
  return [text, () => text !== value && onChange(text), setText]
}
