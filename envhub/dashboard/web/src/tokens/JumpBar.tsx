import { ChevronDown, ChevronUp } from 'lucide-react'

import { count } from '../text/format'
import { KINDS, type JumpKind } from './jumps'

interface Props {
  places: Record<JumpKind, number[]>
  onJump: (kind: JumpKind, way: 1 | -1) => void
}

/** To the next place of each kind, and back. */
export function JumpBar({ places, onJump }: Props) {
  return (
    <span className="jumps" role="group" aria-label="Jump to">
      {KINDS.filter(([kind]) => places[kind].length > (kind === 'versions' ? 1 : 0)).map(([kind, text, key]) => (
        <span key={kind} title={`${text}: ${key} and ${key.toUpperCase()}`}>
          {count(places[kind].length)} {text}
          <button className="icon" aria-label={`Previous: ${text}`} onClick={() => onJump(kind, -1)}>
            <ChevronUp size={15} />
          </button>
          <button className="icon" aria-label={`Next: ${text}`} onClick={() => onJump(kind, 1)}>
            <ChevronDown size={15} />
          </button>
        </span>
      ))}
    </span>
  )
}
