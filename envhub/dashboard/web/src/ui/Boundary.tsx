import { Component, type ReactNode } from 'react'

interface State {
  error: Error | null
}

/** What it holds, or what broke within it: a part of the page that could not be loaded, most likely. */
export class Boundary extends Component<{ children: ReactNode }, State> {
  override state: State = { error: null }

  static getDerivedStateFromError(error: Error): State {
    return { error }
  }

  override render() {
    const { error } = this.state
    if (!error) return this.props.children
    return (
      <section className="notice problem" role="alert">
        <h2>This page could not be shown</h2>
        <p>{error.message}</p>
        <button onClick={() => location.reload()}>Load it again</button>
      </section>
    )
  }
}
