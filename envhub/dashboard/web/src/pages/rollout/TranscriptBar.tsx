import { ChevronDown, ChevronUp, Search } from 'lucide-react'
import { useRef } from 'react'

import { useKeys } from '../../shell/keys'
import { count } from '../../text/format'

export interface Toggle {
  label: string
  on: boolean
  flip: () => void
}

interface Props {
  find: string
  found: number
  hit: number // which of them is current; -1: none
  toggles: Toggle[]
  onFind: (text: string) => void
  onStep: (way: 1 | -1) => void
}

/** Search, and what of the messages is shown. */
export function TranscriptBar({ find, found, hit, toggles, onFind, onStep }: Props) {
  const input = useRef<HTMLInputElement>(null)
  useKeys('Transcript', [{ keys: '/', does: 'Search', run: () => input.current?.focus() }])
  return (
    <div className="transcript-bar">
      <span className="search">
        <Search size={14} aria-hidden />
        <input
          ref={input}
          type="search"
          aria-label="Search this transcript"
          placeholder="Search this transcript"
          value={find}
          onChange={(event) => onFind(event.target.value)}
          onKeyDown={(event) => {
            if (event.key === 'Enter') onStep(event.shiftKey ? -1 : 1)
            if (event.key === 'Escape') input.current?.blur()
          }}
        />
        <kbd aria-hidden>/</kbd>
      </span>
      {find && (
        <>
          <span className="muted" role="status">
            {hit >= 0 ? `${count(hit + 1)} of ` : ''}
            {count(found)} found
          </span>
          <button className="icon" aria-label="Previous that was found" onClick={() => onStep(-1)}>
            <ChevronUp size={16} />
          </button>
          <button className="icon" aria-label="Next that was found" onClick={() => onStep(1)}>
            <ChevronDown size={16} />
          </button>
        </>
      )}
      <span className="toggles" role="group" aria-label="What is shown">
        {toggles.map(({ label, on, flip }) => (
          <button key={label} aria-pressed={on} onClick={flip}>
            {label}
          </button>
        ))}
      </span>
    </div>
  )
}
