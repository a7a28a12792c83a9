import { useCallback, useEffect, useState, useSyncExternalStore } from 'react'

import { ApiError, followChanges, getJson } from './api'

export interface Loaded<T> {
  data: T | undefined // of the path's last answer; kept while a newer one is on its way
  error: ApiError | undefined
}

/** What the API answers to `path`, asked again whenever `generation` changes. */
export function useApi<T>(path: string, generation: number): Loaded<T> {
  const [answer, setAnswer] = useState<Loaded<T> & { path: string }>({ path, data: undefined, error: undefined })
  useEffect(() => {
    const abort = new AbortController()
    getJson<T>(path, abort.signal).then(
      (data) => setAnswer({ path, data, error: undefined }),
      (error: unknown) => {
        if (abort.signal.aborted) return
        if (!(error instanceof ApiError)) throw error
        setAnswer((last) => ({ path, data: last.path === path ? last.data : undefined, error }))
      },
    )
    return () => abort.abort()
  }, [path, generation])
  return answer.path === path ? answer : { data: undefined, error: undefined }
}

export type LiveState = 'connecting' | 'live' | 'lost'

const RECONNECT_MS = 2000

function onVisibility(changed: () => void): () => void {
  document.addEventListener('visibilitychange', changed)
  return () => document.removeEventListener('visibilitychange', changed)
}

/** A number that grows whenever the store has changed, and whether we would know. A hidden tab does not follow: over
 * HTTP/1.1 a browser has six connections to a server, and tabs in the background would hold them all. */
export function useLive(path: string): { generation: number; live: LiveState } {
  const [generation, setGeneration] = useState(0)
  const [live, setLive] = useState<LiveState>('connecting')
  const visible = useSyncExternalStore(onVisibility, () => !document.hidden)
  const changed = useCallback(() => {
    setLive('live')
    setGeneration((n) => n + 1)
  }, [])
  useEffect(() => {
    if (!visible) return
    const abort = new AbortController()
    let timer = 0
    const follow = async (): Promise<void> => {
      await followChanges(path, changed, abort.signal).catch(() => undefined) // however it ended, we begin again
      if (abort.signal.aborted) return
      setLive('lost')
      timer = window.setTimeout(() => void follow(), RECONNECT_MS)
    }
    void follow()
    return () => {
      abort.abort()
      window.clearTimeout(timer)
    }
  }, [path, changed, visible])
  return { generation, live }
}

/** The time, to the second, while something on the page runs. */
export function useNow(running: boolean): number {
  const [now, setNow] = useState(() => Date.now() / 1000)
  useEffect(() => {
    if (!running) return
    const timer = window.setInterval(() => setNow(Date.now() / 1000), 1000)
    return () => window.clearInterval(timer)
  }, [running])
  return now
}

export function useTitle(title: string): void {
  useEffect(() => {
    document.title = title ? `${title} · envhub` : 'envhub'
  }, [title])
}
