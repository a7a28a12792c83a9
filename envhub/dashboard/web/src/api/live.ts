/** The stream that says when to ask again: one a tab, of what the page in sight shows. */

import { useQueryClient } from '@tanstack/react-query'
import { useEffect, useRef, useState, useSyncExternalStore } from 'react'

import { request } from './request'

export type LiveState = 'connecting' | 'live' | 'lost'

const RECONNECT_MS = 2000
export const REPORT_MS = 10_000 // between two answers that go over a whole run

const listeners = new Set<() => void>()
let state: LiveState = 'connecting'

function setState(next: LiveState): void {
  state = next
  for (const listener of listeners) listener()
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener)
  return () => void listeners.delete(listener)
}

export const useLiveState = (): LiveState => useSyncExternalStore(subscribe, () => state)

function onVisibility(changed: () => void): () => void {
  document.addEventListener('visibilitychange', changed)
  return () => document.removeEventListener('visibilitychange', changed)
}

/** Follows `path` while the page is in sight, again after every break, and calls `onEvent` for each event. A hidden tab
 * does not follow: over HTTP/1.1 a browser has six connections to a server, and tabs in the background would hold them. */
function useStream(path: string, onEvent: (name: string, data: string) => void): void {
  const visible = useSyncExternalStore(onVisibility, () => !document.hidden)
  const handler = useRef(onEvent)
  useEffect(() => {
    handler.current = onEvent
  })
  useEffect(() => {
    if (!visible) return
    const abort = new AbortController()
    let timer = 0
    const heard = (name: string, data: string) => {
      setState('live')
      handler.current(name, data)
    }
    const again = async (): Promise<void> => {
      await follow(path, heard, abort.signal).catch(() => undefined) // however it ended, we begin again
      if (abort.signal.aborted) return
      setState('lost')
      timer = window.setTimeout(() => void again(), RECONNECT_MS)
    }
    void again()
    return () => {
      abort.abort()
      window.clearTimeout(timer)
    }
  }, [path, visible])
}

/** Asks again for all that the page shows whenever `path` tells of a change; where answering takes the server long,
 * not more often than `restMs`. */
export function useLive(path: string, restMs = 0): void {
  const client = useQueryClient()
  const asked = useRef(0)
  useStream(path, (name) => {
    if (name !== 'changed' || Date.now() - asked.current < restMs) return
    asked.current = Date.now()
    void client.invalidateQueries({}, { cancelRefetch: false })
  })
}

/** The newest record that the stream brought. */
export function useLatest<T>(path: string, event: string): T | undefined {
  const [latest, setLatest] = useState<T>()
  useStream(path, (name, data) => {
    if (name === event) setLatest(JSON.parse(data) as T)
  })
  return latest
}

/** EventSource can't send the token, fetch can. */
async function follow(path: string, onEvent: (name: string, data: string) => void, signal: AbortSignal): Promise<void> {
  const response = await request(path, { signal })
  const lines = response.body!.pipeThrough(new TextDecoderStream()).getReader()
  let rest = ''
  for (let chunk = await lines.read(); !chunk.done; chunk = await lines.read()) {
    const events = (rest + chunk.value).split('\n\n')
    rest = events.pop() ?? ''
    for (const event of events) {
      const [, name, data] = /^event: (.*)\ndata: (.*)$/s.exec(event) ?? []
      if (name !== undefined && data !== undefined) onEvent(name, data)
    }
  }
}
