{{- define "tideline.name" -}}
{{- if or (eq .Release.Name "tideline") (eq .Release.Name "kapacity-manager") }}{{ .Release.Name }}{{ else }}{{ printf "%s-tideline" .Release.Name | trunc 63 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- /* Not empty where the release stands in for Kapacity's, by its name: workloads only, with that program's flags. */}}
{{- define "tideline.kapacity" -}}
{{- if eq .Release.Name "kapacity-manager" }}yes{{ end }}
{{- end }}

{{- /* Not empty where workloads are scaled. */}}
{{- define "tideline.workloads" -}}
{{- if or .Values.workloads.enabled (include "tideline.kapacity" .) }}yes{{ end }}
{{- end }}

{{- define "tideline.selector" -}}
app.kubernetes.io/name: tideline
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "tideline.labels" -}}
{{ include "tideline.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "tideline.serviceAccount" -}}
{{- default (include "tideline.name" .) .Values.serviceAccount.name }}
{{- end }}
