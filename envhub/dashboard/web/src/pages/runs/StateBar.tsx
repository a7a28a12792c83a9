import { Parts } from '../../charts/Bars'

/** Members by state. */
export function StateBar({ states, bare = false }: { states: Partial<Record<string, number>>; bare?: boolean }) {
  const items = Object.entries(states).map(([name, n]) => ({ name, count: n ?? 0, color: `--state-${name}` }))
  return <Parts label="Members by state" items={items} bare={bare} />
}
