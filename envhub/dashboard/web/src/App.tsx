import { Link, usePlace } from './router'
import { RolloutPage } from './pages/RolloutPage'
import { RolloutsPage } from './pages/RolloutsPage'
import { Notice } from './components/Notice'

export function App() {
  const { path } = usePlace()
  return (
    <>
      <a className="skip" href="#main">
        Skip to content
      </a>
      <header className="top">
        <Link href="/" className="brand">
          <img src="/icon.svg" alt="" width="22" height="22" /> envhub
        </Link>
        <nav aria-label="Pages">
          <Link href="/" aria-current={path === '/' ? 'page' : undefined}>
            Rollouts
          </Link>
        </nav>
      </header>
      <main id="main" tabIndex={-1}>
        <CurrentPage path={path} />
      </main>
    </>
  )
}

function CurrentPage({ path }: { path: string }) {
  const id = /^\/rollouts\/([^/]+)$/.exec(path)?.[1]
  if (id !== undefined) return <RolloutPage key={id} id={decodeURIComponent(id)} />
  if (path === '/') return <RolloutsPage />
  return (
    <Notice title="There is no such page">
      <Link href="/">All rollouts</Link>
    </Notice>
  )
}
