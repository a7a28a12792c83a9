import { useSyncExternalStore, type AnchorHTMLAttributes, type MouseEvent } from 'react'

const MOVED = 'envhub:moved'

export function navigate(url: string, options: { replace?: boolean; state?: unknown } = {}): void {
  history[options.replace ? 'replaceState' : 'pushState'](options.state ?? null, '', url)
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

/** Where the page is; the query is part of it, so that every view can be shared as a URL. */
export function usePlace(): { path: string; search: URLSearchParams } {
  const url = useSyncExternalStore(subscribe, () => location.pathname + location.search)
  const { pathname, searchParams } = new URL(url, location.origin)
  return { path: pathname, search: searchParams }
}

export function rolloutUrl(id: string, search = ''): string {
  return `/rollouts/${encodeURIComponent(id)}${search}`
}

/** A real link, so that it can be opened in a new tab, copied and focused. */
export function Link({ href, ...rest }: AnchorHTMLAttributes<HTMLAnchorElement> & { href: string }) {
  const follow = (event: MouseEvent) => {
    if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return
    event.preventDefault()
    navigate(href)
    window.scrollTo(0, 0)
  }
  return <a href={href} onClick={follow} {...rest} />
}
