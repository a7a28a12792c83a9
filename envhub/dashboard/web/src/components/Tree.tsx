import { count } from '../format'
import { Link, rolloutUrl } from '../router'
import type { RolloutSummary } from '../types'
import { Reward, StatusChip } from './Facts'

/** A rollout's tree, from its root down, with the one that the page shows marked. */
export function Tree({ tree, size, current }: { tree: RolloutSummary[]; size: number; current: string }) {
  const root = tree[0]
  if (!root || tree.length < 2) return null
  const below = Map.groupBy(tree, (one) => one.parent ?? '')
  return (
    <section className="panel">
      <h2>
        Tree <small className="muted">{count(size)} rollouts</small>
      </h2>
      <div className="tree">
        <ul>
          <Node of={root} below={below} current={current} />
        </ul>
      </div>
      {size > tree.length && <p className="muted">The first {count(tree.length)} are shown.</p>}
    </section>
  )
}

interface NodeProps {
  of: RolloutSummary
  below: Map<string, RolloutSummary[]>
  current: string
}

function Node({ of, below, current }: NodeProps) {
  const children = below.get(of.rollout_id) ?? []
  const name = of.parent ? of.rollout_id.slice(of.parent.length) : of.rollout_id
  return (
    <li>
      <Link
        href={rolloutUrl(of.rollout_id)}
        aria-current={of.rollout_id === current ? 'page' : undefined}
        title={of.rollout_id}
      >
        <span className="tree-name">{name}</span>
        <span className="tree-task">{of.parent ? of.environment : 'root'}</span>
        <StatusChip of={of} />
        <Reward value={of.reward} />
      </Link>
      {children.length > 0 && (
        <ul>
          {children.map((child) => (
            <Node key={child.rollout_id} of={child} below={below} current={current} />
          ))}
        </ul>
      )}
    </li>
  )
}
