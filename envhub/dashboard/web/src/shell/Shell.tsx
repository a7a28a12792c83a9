import { Activity, Boxes, Keyboard, Layers, List, Monitor, Moon, Play, Sun, type LucideIcon } from 'lucide-react'
import { useState, type ReactNode } from 'react'

import { useLiveState, type LiveState } from '../api/live'
import { Help } from './Help'
import { useKeys } from './keys'
import { Link, navigate, usePlace } from './router'
import { THEMES, useTheme, type Theme } from './theme'

const ROOMS: { href: string; label: string; key: string; icon: LucideIcon; also?: string }[] = [
  { href: '/overview', label: 'Overview', key: 'o', icon: Activity },
  { href: '/rollouts', label: 'Rollouts', key: 'r', icon: List },
  { href: '/groups', label: 'Groups', key: 'g', icon: Layers },
  { href: '/environments', label: 'Environments', key: 'e', icon: Boxes, also: '/tasks' },
  { href: '/runs', label: 'Runs', key: 'u', icon: Play },
]

/** The frame of every page. */
export function Shell({ children }: { children: ReactNode }) {
  const { path } = usePlace()
  const [help, setHelp] = useState(false)
  const [theme, setTheme] = useTheme()
  const nextTheme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length]!
  useKeys('Everywhere', [
    ...ROOMS.map(({ href, label, key }) => ({ keys: `g ${key}`, does: `Go to ${label}`, run: () => navigate(href) })),
    { keys: '?', does: 'Show the keys', run: () => setHelp(true) },
  ])
  return (
    <div className="shell">
      <a className="skip" href="#main">
        Skip to content
      </a>
      <header className="sidebar">
        <Link href="/overview" className="brand" aria-label="envhub, overview">
          <img src="/icon.svg" alt="" width="20" height="20" /> <span>envhub</span>
        </Link>
        <nav aria-label="Pages">
          {ROOMS.map(({ href, label, key, icon: Icon, also }) => (
            <Link
              key={href}
              href={href}
              title={label}
              aria-label={label}
              aria-current={path.startsWith(href) || (also && path.startsWith(also)) ? 'page' : undefined}
            >
              <Icon size={16} strokeWidth={1.8} aria-hidden /> <span>{label}</span> <kbd aria-hidden>g {key}</kbd>
            </Link>
          ))}
        </nav>
        <div className="sidebar-foot">
          <LiveDot state={useLiveState()} />
          <button className="icon keys" aria-label="Keys" title="Keys (?)" onClick={() => setHelp(true)}>
            <Keyboard size={16} strokeWidth={1.8} />
          </button>
          <button
            className="icon"
            aria-label={`Theme: ${theme}. Change to ${nextTheme}`}
            title={`Theme: ${theme}`}
            onClick={() => setTheme(nextTheme)}
          >
            <ThemeIcon theme={theme} />
          </button>
        </div>
      </header>
      <main id="main" tabIndex={-1}>
        {children}
      </main>
      {help && <Help onClose={() => setHelp(false)} />}
    </div>
  )
}

function ThemeIcon({ theme }: { theme: Theme }) {
  const Icon = { system: Monitor, light: Sun, dark: Moon }[theme]
  return <Icon size={16} strokeWidth={1.8} />
}

const LIVE_TEXT: Record<LiveState, string> = { connecting: 'Connecting', live: 'Live', lost: 'Reconnecting' }

function LiveDot({ state }: { state: LiveState }) {
  return (
    <span className={`live-dot ${state}`} role="status" title={LIVE_TEXT[state]}>
      <span>{LIVE_TEXT[state]}</span>
    </span>
  )
}
