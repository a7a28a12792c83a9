import { useWindowVirtualizer } from '@tanstack/react-virtual'
import { useLayoutEffect, useMemo, useRef, useState } from 'react'

import type { TranscriptEntry } from '../../api/types'
import { useKeys } from '../../shell/keys'
import { Link, rolloutUrl, usePlace } from '../../shell/router'
import { decimal } from '../../text/format'
import { Notice } from '../../ui/Notice'
import { EntryBody } from './EntryBody'
import { textOf, type Shown } from './Message'
import { TranscriptBar, type Toggle } from './TranscriptBar'

interface Props {
  id: string
  entries: TranscriptEntry[]
  rewards: Record<number, number> // that single turns earned by themselves
}

/** Every message of a rollout; only those in sight are in the document. */
export function Transcript({ id, entries, rewards }: Props) {
  const place = usePlace()
  const list = useRef<HTMLOListElement>(null)
  const [at, setAt] = useState(-1)
  const hidden = place.get('hide').split(',')
  const find = place.get('find')
  const shown = useMemo(
    () =>
      entries
        .map((entry, index) => ({ entry, index }))
        .filter(({ entry }) => !place.get('hide').split(',').includes(entry.message.role)),
    [entries, place.get('hide')],
  )
  const hits = useMemo(() => {
    const wanted = find.toLowerCase()
    return wanted ? shown.flatMap(({ entry }, n) => (textOf(entry.message).includes(wanted) ? [n] : [])) : []
  }, [shown, find])
  const [top, setTop] = useState(0)
  useLayoutEffect(() => setTop(list.current?.offsetTop ?? 0), [shown.length])
  const virtualizer = useWindowVirtualizer({
    count: shown.length,
    estimateSize: (n) => 74 + Math.min(28, (shown[n]?.entry.message.content.length ?? 0) / 110) * 20,
    overscan: 6,
    scrollMargin: top,
    getItemKey: (n) => n,
  })
  const moveTo = (n: number) => {
    const next = Math.max(0, Math.min(shown.length - 1, n))
    setAt(next)
    virtualizer.scrollToIndex(next, { align: 'center' })
  }
  const nextHit = (way: 1 | -1) => {
    const from = at < 0 ? (virtualizer.range?.startIndex ?? 0) : at
    const next = way === 1 ? hits.find((n) => n > from || at < 0) : hits.findLast((n) => n < from)
    if (next !== undefined) moveTo(next)
  }
  useKeys('Transcript', [
    { keys: 'j', does: 'Next message', run: () => moveTo(at + 1) },
    { keys: 'k', does: 'Previous message', run: () => moveTo(at - 1) },
    { keys: 'n', does: 'Next that was found', run: () => nextHit(1) },
    { keys: 'N', does: 'Previous that was found', run: () => nextHit(-1) },
  ])
  const show: Shown = {
    reasoning: place.get('reasoning') === 'open',
    calls: !hidden.includes('calls'),
    raw: place.get('raw') === 'true',
    find,
  }
  const toggles: Toggle[] = [
    ...(['system', 'user', 'tool'] as const).map((role) => toggle(role, hidden, place.set)),
    toggle('calls', hidden, place.set),
    {
      label: 'reasoning',
      on: show.reasoning,
      flip: () => place.set({ reasoning: show.reasoning ? '' : 'open' }),
    },
    { label: 'monospace', on: show.raw, flip: () => place.set({ raw: show.raw ? '' : 'true' }) },
  ]
  if (entries.length === 0) return <Notice title="Nothing was said yet" />
  const names = callNames(entries)
  return (
    <section aria-label="Transcript">
      <TranscriptBar
        find={find}
        found={hits.length}
        hit={hits.indexOf(at)}
        toggles={toggles}
        onFind={(text) => place.set({ find: text })}
        onStep={nextHit}
      />
      <ol ref={list} className="transcript" style={{ height: virtualizer.getTotalSize() }}>
        {virtualizer.getVirtualItems().map((item) => (
          <li
            key={item.key}
            ref={virtualizer.measureElement}
            data-index={item.index}
            style={{ transform: `translateY(${item.start - top}px)` }}
          >
            <Entry
              id={id}
              {...shown[item.index]!}
              current={item.index === at}
              show={show}
              names={names}
              reward={rewards[shown[item.index]!.entry.turn]}
            />
          </li>
        ))}
      </ol>
    </section>
  )
}

function toggle(name: string, hidden: string[], set: (changes: Record<string, string>) => void): Toggle {
  const on = !hidden.includes(name)
  const next = hidden.filter((one) => one && one !== name)
  return { label: name, on, flip: () => set({ hide: (on ? [...next, name] : next).join(',') }) }
}

/** The tool whose call a message answers, by the call's id. */
const callNames = (entries: TranscriptEntry[]): Map<string, string> =>
  new Map(entries.flatMap((entry) => entry.message.tool_calls.map((call) => [call.id, call.name] as const)))

interface EntryProps {
  id: string
  entry: TranscriptEntry
  index: number // in the whole transcript
  current: boolean
  show: Shown
  names: Map<string, string>
  reward: number | undefined // of its turn
}

function Entry({ id, entry, index, current, show, names, reward }: EntryProps) {
  const { message, turn, row, sampled, fork, continued } = entry
  const answers = names.get(message.tool_call_id)
  return (
    <>
      {fork && (
        <p className="fork">
          <Link href={rolloutUrl(id, 'branches', { turn })}>A new branch: {fork.replaceAll('_', ' ')}</Link>
        </p>
      )}
      <article className={`message ${message.role}${current ? ' current' : ''}`}>
        <header>
          <h3>{message.role}</h3>
          {answers && <code>{answers}</code>}
          {sampled && reward !== undefined && <small className="tag">earned {decimal(reward)}</small>}
          {sampled && !continued && <small className="tag">end of its branch</small>}
          <span className="where">
            {turn >= 0 && <Link href={rolloutUrl(id, 'calls', { turn })}>turn {turn}</Link>}
            {row >= 0 && <Link href={rolloutUrl(id, 'tokens', { row, turn })}>tokens</Link>}
          </span>
        </header>
        <EntryBody key={`${id}/${index}`} id={id} index={index} entry={entry} show={show} />
      </article>
    </>
  )
}
