import { useId, useState, type FormEvent, type ReactNode } from 'react'

import { keepToken, type ApiError } from '../api'
import { Link } from '../router'

/** Says plainly that there is nothing to show, and why. */
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

export function Problem({ error }: { error: ApiError }) {
  if (error.status === 401) return <TokenForm />
  return (
    <section className="notice problem" role="alert">
      <h2>{error.status === 404 ? 'Not found' : 'That did not work'}</h2>
      <p>{error.message}</p>
      {error.status === 404 && <Link href="/">All rollouts</Link>}
    </section>
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
        <button type="submit">Open</button>
      </div>
    </form>
  )
}
