/** What stands in the place of data: nothing yet, nothing at all, or what went wrong. */

import { useId, useState, type FormEvent, type ReactNode } from 'react'

import { keepToken, type ApiError } from '../api/request'
import { Link } from '../shell/router'

export function Notice({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <section className="notice">
      <h2>{title}</h2>
      {children}
    </section>
  )
}

export function Loading({ what }: { what: string }) {
  return (
    <p className="loading" role="status">
      Loading {what}…
    </p>
  )
}

const TITLES: Record<number, string> = { 0: 'No connection', 403: 'Not allowed', 404: 'Not found' }

export function Problem({ error }: { error: ApiError }) {
  if (error.status === 401) return <TokenForm />
  return (
    <section className="notice problem" role="alert">
      <h2>{TITLES[error.status] ?? 'That did not work'}</h2>
      <p>{error.message}</p>
      {error.status === 404 && <Link className="link" href="/rollouts">
          All rollouts</Link>}
    </section>
  )
}

interface Asked<T> {
  data: T | undefined
  error: ApiError | null
}

/** The data of a query once it is there; an older answer stays in sight while a newer one fails. */
export function Ready<T>({ of, what, children }: { of: Asked<T>; what: string; children: (data: T) => ReactNode }) {
  if (of.data === undefined) return of.error ? <Problem error={of.error} /> : <Loading what={what} />
  return (
    <>
      {of.error && (
        <p className="banner" role="alert">
          What you see may be out of date: {of.error.message}
        </p>
      )}
      {children(of.data)}
    </>
  )
}

function TokenForm() {
  const field = useId()
  const [token, setToken] = useState('')
  const submit = (event: FormEvent) => {
    event.preventDefault()
    keepToken(token.trim())
    location.reload()
  }
  return (
    <form className="notice" onSubmit={submit}>
      <h2>This dashboard asks for a token</h2>
      <p>Whoever started the server has it. It is kept in this tab and forgotten when the tab closes.</p>
      <label htmlFor={field}>Token</label>
      <div className="joined">
        <input
          id={field}
          type="password"
          autoComplete="off"
          required
          autoFocus
          value={token}
          onChange={(event) => setToken(event.target.value)}
        />
        <button type="submit" className="primary">
          Open
        </button>
      </div>
    </form>
  )
}
