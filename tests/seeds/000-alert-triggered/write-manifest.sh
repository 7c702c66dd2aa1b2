cat <<EOF> alert-triggered-autoscaler.yaml
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: alert-triggered-autoscaler
  namespace: cpaas-system
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: alert-triggered-autoscaler
rules:
  - apiGroups:
      - ""
    resources:
      - configmaps
    verbs:
      - get
      - list
      - watch
      - update
      - create
      - patch
  - apiGroups:
      - infrastructure.cluster.x-k8s.io
    resources:
      - "dcsmachinetemplates"
      - "dcsiphostnamepools"
    verbs:
      - get
      - list
      - watch
  - apiGroups:
      - cluster.x-k8s.io
    resources:
      - "machinedeployments"
    verbs:
      - get
      - list
      - watch
      - update
      - create
      - patch
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: alert-triggered-autoscaler
roleRef:
  kind: ClusterRole
  apiGroup: rbac.authorization.k8s.io
  name: alert-triggered-autoscaler
subjects:
  - kind: ServiceAccount
    namespace: cpaas-system
    name: alert-triggered-autoscaler
---
apiVersion: apps/v1
kind: Deployment
metadata:
  labels:
    service_name: alert-triggered-autoscaler
  name: alert-triggered-autoscaler
  namespace: cpaas-system
spec:
  progressDeadlineSeconds: 600
  replicas: 1
  revisionHistoryLimit: 10
  selector:
    matchLabels:
      service_name: alert-triggered-autoscaler
  strategy:
    rollingUpdate:
      maxSurge: 1
      maxUnavailable: 1
    type: RollingUpdate
  template:
    metadata:
      creationTimestamp: null
      labels:
        service_name: alert-triggered-autoscaler
    spec:
      affinity:
        podAntiAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
          - labelSelector:
              matchExpressions:
              - key: service_name
                operator: In
                values:
                - alert-triggered-autoscaler
            topologyKey: kubernetes.io/hostname
      containers:
      - command:
        - /alert-triggered-autoscaler
        - --v=0
        # - --scale-interval=3600
        # - --machine-deployment-selector-key=cluster.x-k8s.io/cluster-name
        # - --machine-deployment-selector-value=<cluster-name>
        env:
        - name: POD_NAME
          valueFrom:
            fieldRef:
              apiVersion: v1
              fieldPath: metadata.name
        - name: NAMESPACE
          valueFrom:
            fieldRef:
              apiVersion: v1
              fieldPath: metadata.namespace
        image: $REGISTRY_ADD/ait/alert-triggered-autoscaler:v4.0.0-beta.4.g515c3af7
        imagePullPolicy: Always
        name: alert-triggered-autoscaler
        ports:
        - containerPort: 8080
          protocol: TCP
        resources:
          limits:
            cpu: "2"
            memory: 4Gi
          requests:
            cpu: 95m
            memory: 32Mi
        securityContext:
          runAsGroup: 697
          runAsUser: 697
        terminationMessagePath: /dev/termination-log
        terminationMessagePolicy: File
      dnsPolicy: ClusterFirst
      nodeSelector:
        kubernetes.io/os: linux
      restartPolicy: Always
      schedulerName: default-scheduler
      securityContext:
        fsGroup: 697
      serviceAccount: alert-triggered-autoscaler
      serviceAccountName: alert-triggered-autoscaler
      terminationGracePeriodSeconds: 30
      tolerations:
      - effect: NoSchedule
        key: node-role.kubernetes.io/master
        operator: Exists
      - effect: NoSchedule
        key: node-role.kubernetes.io/control-plane
        operator: Exists
      - effect: NoSchedule
        key: node-role.kubernetes.io/cpaas-system
        operator: Exists
---
apiVersion: v1
kind: Service
metadata:
  labels:
    service_name: alert-triggered-autoscaler
  name: alert-triggered-autoscaler
  namespace: cpaas-system
spec:
  internalTrafficPolicy: Cluster
  ipFamilies:
  - IPv4
  ipFamilyPolicy: SingleStack
  ports:
  - name: api
    port: 8080
    protocol: TCP
    targetPort: 8080
  selector:
    service_name: alert-triggered-autoscaler
  type: ClusterIP
EOF
