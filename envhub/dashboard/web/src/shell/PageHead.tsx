import { useEffect, type ReactNode } from 'react'

import { Link } from './router'

interface Props {
  title: string
  crumbs?: (readonly [string, string])[] // text and URL of what the page lies in
  beside?: ReactNode // right of the title: what state it is in
  actions?: ReactNode
  children?: ReactNode // below the title
}

export function PageHead({ title, crumbs = [], beside, actions, children }: Props) {
  useEffect(() => {
    document.title = `${title} · envhub`
  }, [title])
  return (
    <header className="page-head">
      {crumbs.length > 0 && (
        <nav aria-label="Where this lies">
          <ol className="crumbs">
            {crumbs.map(([text, href]) => (
              <li key={href}>
                <Link href={href}>{text}</Link>
              </li>
            ))}
          </ol>
        </nav>
      )}
      <div className="title">
        <h1>{title}</h1>
        {beside}
        {actions && <div className="actions">{actions}</div>}
      </div>
      {children && <div className="subtitle">{children}</div>}
    </header>
  )
}
