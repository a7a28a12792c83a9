/** Where the page is. The query is part of it, so that every view can be shared as a URL. */

import { useSyncExternalStore, type AnchorHTMLAttributes, type MouseEvent } from 'react'

import { query } from '../api/client'

const MOVED = 'envhub:moved'

export function navigate(url: string, { replace = false } = {}): void {
  history[replace ? 'replaceState' : 'pushState'](null, '', url)
  window.dispatchEvent(new Event(MOVED))
}

function subscribe(onMove: () => void): () => void {
  window.addEventListener('popstate', onMove)
  window.addEventListener(MOVED, onMove)
  return () => {
    window.removeEventListener('popstate', onMove)
    window.removeEventListener(MOVED, onMove)
  }
}

export interface Place {
  path: string
  search: URLSearchParams
  get: (name: string) => string // '' where it is not set
  with: (changes: Record<string, unknown>) => string // the URL of the same place with other state
  set: (changes: Record<string, unknown>) => void // goes there, without a new step in the history
}

export function usePlace(): Place {
  const url = useSyncExternalStore(subscribe, () => location.pathname + location.search)
  const { pathname: path, searchParams: search } = new URL(url, location.origin)
  const other = (changes: Record<string, unknown>) => path + query({ ...Object.fromEntries(search), ...changes })
  return {
    path,
    search,
    get: (name) => search.get(name) ?? '',
    with: other,
    set: (changes) => navigate(other(changes), { replace: true }),
  }
}

/** The segments that stand for `*` in a pattern such as `/rollouts/*`; undefined where the path is another's. */
export function match(pattern: string, path: string): string[] | undefined {
  const wanted = pattern.split('/')
  const given = path.split('/')
  if (wanted.length !== given.length) return undefined
  const fits = wanted.every((segment, n) => segment === '*' || segment === given[n])
  return fits ? given.filter((_, n) => wanted[n] === '*').map(decoded) : undefined
}

function decoded(segment: string): string {
  try {
    return decodeURIComponent(segment)
  } catch {
    return segment // typed by hand, with a % that begins nothing
  }
}

const at = (...segments: string[]): string => `/${segments.map(encodeURIComponent).join('/')}`

export const rolloutUrl = (id: string, tab = '', state: Record<string, unknown> = {}): string =>
  (tab ? at('rollouts', id, tab) : at('rollouts', id)) + query(state)
export const rolloutsUrl = (filters: Record<string, unknown> = {}): string => `/rollouts${query(filters)}`
export const groupUrl = (id: string): string => at('groups', id)
export const runUrl = (id: string): string => at('runs', id)
export const environmentUrl = (id: string, run = ''): string => at('environments', id) + query({ run })
export const taskUrl = (environment: string, task: string, run = ''): string =>
  at('tasks', environment, task) + query({ run })

/** A real link, so that it can be opened in a new tab, copied and focused. */
export function Link({ href, ...rest }: AnchorHTMLAttributes<HTMLAnchorElement> & { href: string }) {
  const follow = (event: MouseEvent) => {
    if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return
    event.preventDefault()
    const before = location.pathname
    navigate(href)
    if (location.pathname !== before) window.scrollTo(0, 0)
  }
  return <a href={href} onClick={follow} {...rest} />
}
