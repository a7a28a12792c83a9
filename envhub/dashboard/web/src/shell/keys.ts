/** Keys that pages listen to, each with the words that the help shows. */

import { useEffect, useSyncExternalStore } from 'react'

export interface Key {
  keys: string // one key as KeyboardEvent names it, or two in a row: 'g o'
  does: string
  run: () => void
}

interface Scope {
  title: string
  keys: Key[]
}

const SEQUENCE_MS = 1200

const scopes = new Map<symbol, Scope>()
const listeners = new Set<() => void>()
let shown: Scope[] = []
let first = { key: '', at: 0 }

function changed(): void {
  shown = [...scopes.values()]
  for (const listener of listeners) listener()
}

/** The keys work while the component that names them is on the page; the last to name a key has it. */
export function useKeys(title: string, keys: Key[]): void {
  useEffect(() => {
    const id = Symbol(title)
    scopes.set(id, { title, keys })
    changed()
    return () => {
      scopes.delete(id)
      changed()
    }
  })
}

export function useShownKeys(): Scope[] {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
    () => shown,
  )
}

function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && (target.matches('input, textarea, select') || target.isContentEditable)
}

function find(keys: string): Key | undefined {
  return [...scopes.values()]
    .reverse()
    .flatMap((scope) => scope.keys)
    .find((key) => key.keys === keys)
}

export function listenToKeys(): void {
  document.addEventListener('keydown', (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return
    if (isTyping(event.target) || document.querySelector('dialog[open], [role="menu"]')) return
    const sequence = event.timeStamp - first.at < SEQUENCE_MS ? `${first.key} ${event.key}` : ''
    const key = find(sequence) ?? find(event.key)
    first = { key: event.key, at: event.timeStamp }
    if (!key) return
    event.preventDefault()
    key.run()
  })
}
