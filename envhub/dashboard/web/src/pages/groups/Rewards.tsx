import type { CSSProperties } from 'react'

import { decimal } from '../../text/format'

/** The rewards of a group's members as a row of small squares. */
export function Rewards({ rewards }: { rewards: readonly (number | null)[] }) {
  const said = rewards.map((reward) => (reward === null ? 'none' : decimal(reward, 2))).join(', ')
  return (
    <span className="rewards" role="img" aria-label={`rewards ${said}`} title={said}>
      {rewards.map((reward, n) => (
        <i
          key={n}
          className={reward === null ? 'none' : ''}
          style={{ '--share': `${100 * Math.min(1, Math.max(0, reward ?? 0))}%` } as CSSProperties}
        />
      ))}
    </span>
  )
}
