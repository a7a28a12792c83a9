import { useApi } from '../api/queries'

/** Which run a page is about; none: the newest, or all of them. */
export function RunChoice({
  value,
  onChange,
  all = 'Newest run',
}: {
  value: string
  onChange: (run: string) => void
  all?: string
}) {
  const runs = useApi('/api/runs', {})
  const ids = (runs.data ?? []).map((run) => run.run_id)
  const known = value === '' || ids.includes(value) ? ids : [value, ...ids]
  return (
    <select aria-label="Run" value={value} onChange={(event) => onChange(event.target.value)}>
      <option value="">{all}</option>
      {known.map((id) => (
        <option key={id}>{id}</option>
      ))}
    </select>
  )
}
