{{- define "tideline.name" -}}
{{- if or (eq .Release.Name "tideline") (eq .Release.Name "kapacity-manager") }}{{ .Release.Name }}{{ else }}{{ printf "%s-tideline" .Release.Name | trunc 63 | trimSuffix "-" }}{{ end }}
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
