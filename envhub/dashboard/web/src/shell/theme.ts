/** Light, dark, or as the system has it: kept in this browser. */

import { useState } from 'react'

export const THEMES = ['system', 'light', 'dark'] as const
export type Theme = (typeof THEMES)[number]

const KEY = 'envhub.theme'

function kept(): Theme {
  const value = localStorage.getItem(KEY)
  return THEMES.find((theme) => theme === value) ?? 'system'
}

export function applyTheme(theme: Theme = kept()): void {
  if (theme === 'system') delete document.documentElement.dataset.theme
  else document.documentElement.dataset.theme = theme
}

export function useTheme(): [Theme, (theme: Theme) => void] {
  const [theme, setTheme] = useState(kept)
  const choose = (next: Theme) => {
    localStorage.setItem(KEY, next)
    applyTheme(next)
    setTheme(next)
  }
  return [theme, choose]
}
