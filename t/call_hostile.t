#!/usr/bin/perl

# Tests with clients and a core that do whatever they like, thousands of times
# in an order of chance: nothing of a client's claims reaches the core, nobody
# is served in another's name, and no worker dies of it.
#
# IMS_HOSTILE=SEED[,STEPS] tries another order.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Ims;
use ImsCall;
use ImsClient;
use ImsCore;
use ImsSip;
use ImsWs;
use Test::Nginx;
use Time::HiRes qw/ time /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my ($seed, $steps) = split /,/, $ENV{IMS_HOSTILE} // '20261130';
$steps //= 2500;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(12);

ims_keys($t);
ims_pool($t, size => 20);

$t->write_file_expand('nginx.conf', ims_conf($t, workers => 3,
    http => 'ims_flow_transactions 64; ims_max_message 16k;'));
$t->run();

###############################################################################

srand $seed;

my $core = ImsCore->new(port(8060));
my $in = $core->connect(port(8070));

my @clients = map { ImsClient->new(user => "user$_") } 1 .. 3;
my %whose = map { $_->{id}{impu} => $_ } @clients;

# what each has: requests sent (sent) and received (got), routes of dialogs

my (%sent, %got, %dialogs, %wrong, %seen, @invites);

ImsCall::registered($_, $core) for @clients;

my $master = $t->read_file('nginx.pid') + 0;
my $workers;
ims_wait(8, sub { my @w = workers(); $workers = "@w"; @w == 3 });
my @torture = map { file($_) } glob 'torture/rfc4475/*.dat';

my @evil = (
    'P-Asserted-Identity: <sip:marker@ims.example>',
    'p-asserted-identity : <tel:+49marker>',
    "P-Asserted-Identity:\r\n <sip:marker\@ims.example>",
    'P-Preferred-Identity: <sip:marker@ims.example>',
    'Path: <sip:marker@127.0.0.1;lr>', 'Service-Route: <sip:marker@x;lr>',
    'P-Charging-Vector: icid-value=marker',
    'P-Access-Network-Info: X;marker;network-provided',
    'P-Served-User: <sip:marker@x>', 'Remote-Party-ID: <sip:marker@x>',
    'History-Info: <sip:marker@x>;index=1', 'Feature-Caps: *;marker',
    'Authorization: Digest username="marker",integrity-protected="yes"',
    'Proxy-Authorization: Bearer marker', 'Additional-Identity: marker',
    'P-Visited-Network-ID: marker', 'Security-Verify: marker',
);

my @methods = qw/ INVITE MESSAGE OPTIONS SUBSCRIBE NOTIFY REFER INFO UPDATE
                  PRACK BYE PUBLISH ACK CANCEL FOO REGISTER /;
my @statuses = (100, 180, 180, 183, 199, 200, 200, 200, 202, 302, 401, 408,
                430, 481, 486, 487, 500, 503, 603, 699);

my @of_client = (
    ([\&initial, 6], [\&in_dialog, 8], [\&answer, 12], [\&cancel, 3],
     [\&again, 2], [\&refresh, 3], [\&come_back, 2], [\&noise, 2],
     [\&frames, 1], [\&leave, 1])
);
my @of_core = (
    ([\&core_initial, 8], [\&core_in_dialog, 6], [\&core_answer, 14],
     [\&core_cancel, 3], [\&core_again, 2], [\&core_noise, 1],
     [\&core_close, 1])
);

my $end = time() + 150;
my $done = 0;

for (1 .. $steps) {
    last if time() > $end;
    my $c = pick(@clients);
    chance(2) ? weighted(@of_client)->($c) : weighted(@of_core)->($c);
    look() if chance(3);
    $done++;
}

# what is still under way

look() for 1 .. 20;

diag(join ', ', map { "$_ $seen{$_}" } sort keys %seen) if $ENV{IMS_HOSTILE};

cmp_ok($done, '>', $steps / 4, "$done steps of seed $seed");
cmp_ok($seen{'request at the core'} // 0, '>', $done / 20,
    'much of it got to the core');
cmp_ok($seen{'response at the core'} // 0, '>', $done / 20, 'and back to it');
cmp_ok($seen{'request at a client'} // 0, '>', $done / 20, 'to clients');
cmp_ok($seen{'response at a client'} // 0, '>', $done / 20,
    'and back to them');
is_deeply(\%wrong, {}, 'nothing that may not be') or diag explain \%wrong;

# and life goes on

is(join(' ', workers()), $workers, 'the same workers');

$core->silent(0);
$core->close($_) for $core->links();
$core->request(0.1);
$in = $core->connect(port(8070));

my $served = 0;
my $late = time() + 45;

for my $c (@clients, ImsClient->new(user => 'later')) {

    # what they sent may have used up the transactions they may have

    while (time() < $late) {
        $c->connect();
        1 while $core->request(0.05);
        last if eval { plain($c) };
    }
    $served++ if time() < $late;
}

is($served, 4, 'all are served as ever');
is(ims_count_log($t, qr/exited on signal/), 0, 'nobody died');
is(ims_count_log($t, qr/\[(?:alert|emerg|crit)\]/), 0, 'no alerts');

my $counters = ims_status()->{counters};
cmp_ok($counters->{dialog_forged}, '>', 0, 'forged dialogs were refused');
cmp_ok($counters->{response_from_client}, '>', 0, 'and responses');

###############################################################################

# a message in each direction

sub plain {
    my ($c) = @_;

    ImsCall::registered($c, $core);

    $core->send($in, ImsCall::core_request($c, 'MESSAGE', body => 'plain'));
    my $m;
    do { $m = $c->answer(1) or return 0 } until ($m->{body} // '') eq 'plain';
    $c->send(sip_reply($m, 200, 'OK'));

    $c->send($c->{ua}->request('MESSAGE', to => 'sip:bob@ims.example',
        call_id => 'plain' . int rand 1e9, body => 'plain'));

    while (my ($m, $link) = $core->request(1)) {
        next unless ($m->{body} // '') eq 'plain';
        $core->reply($link, $m, 200, 'OK');
        return 1;
    }

    return 0;
}


# -- chance -------------------------------------------------------------------

sub chance { return rand($_[0]) < 1 }

sub pick { return $_[rand @_] }


sub weighted {
    my $sum = 0;
    $sum += $_->[1] for @_;
    my $at = rand $sum;

    for (@_) {
        return $_->[0] if ($at -= $_->[1]) < 0;
    }
}


# a message that is somewhat different; what is left of it may be anybody's

sub spoil {
    my ($text) = @_;

    for (1 .. 1 + int rand 3) {
        my @lines = split /(?<=\r\n)/, $text;
        my $n = int rand @lines;
        my $at = int rand length $text;

        pick(
            sub { substr($text, $at, 1) = chr rand 256 },
            sub { substr($text, $at, 1) = '' },
            sub { substr($text, $at, 0) = pick(';', ',', '<', '>', '"', "\r\n",
                                               ' ', "\0", '%00', '@', ':') },
            sub { splice @lines, $n, 1; $text = join '', @lines },
            sub { splice @lines, $n, 0, $lines[rand @lines];
                  $text = join '', @lines },
            sub { substr($text, $at) = '' },
            sub { substr($text, $at, 0) = pick('x', '1', ';a=b', ' ')
                                          x (1 + rand 3000) },
            sub { $text =~ s/(tag=)/$1z/ }, sub { $text =~ s/\d+/0/ },
            sub { $text =~ s/(branch=z9hG4bK)/$1q/i },
            sub { $text =~ s/\d+/99999999999999999999/ },
        )->();
        last if length $text == 0;
    }

    return $text;
}


# the text as it is, or spoilt; only what is not spoilt makes false claims

sub give {
    my ($c, $text) = @_;

    return if length $text > 60000;
    $text = spoil($text) if $text !~ /marker/ && chance(5);
    $c->send($text);
}


sub extra {
    my @extra = chance(3) ? map { pick(@evil) } 1 .. 1 + rand 4 : ();

    push @extra, 'Route: <sip:127.0.0.1:22;lr>' if chance(12);
    push @extra, 'Record-Route: <sip:127.0.0.1:22;lr>' if chance(12);
    push @extra, 'Max-Forwards: 0' if chance(40);
    push @extra, 'Proxy-Require: x' if chance(40);
    push @extra, 'Privacy: id' if chance(10);
    push @extra, 'Reason: SIP;cause=200' if chance(20);

    return @extra;
}


# -- clients ------------------------------------------------------------------

sub initial {
    my ($c) = @_;

    my $method = pick(@methods);
    my $text = $c->{ua}->request($method, call_id => 'c' . int rand 200,
        to => pick('sip:bob@ims.example', 'tel:+4930', $c->{id}{impu},
                   pick(@clients)->{id}{impu}, 'http://x', 'sip:127.0.0.1:22'),
        from => chance(8) ? pick(@clients)->{id}{impu} : $c->{id}{impu},
        from_tag => 'f' . int rand 50, cseq => 1 + int rand 20,
        chance(10) ? (to_tag => 'x') : (), body => 'x' x rand 200,
        extra => [ 'Contact: <' . $c->{ua}->contact() . '>', extra() ]);

    push @{$sent{$c}}, $text;
    shift @{$sent{$c}} if @{$sent{$c}} > 40;
    give($c, $text);
}


sub again {
    my ($c) = @_;

    give(pick(@clients), pick(@{$sent{$c} // return}));
}


sub cancel {
    my ($c) = @_;

    my ($text) = grep { /^INVITE/ } reverse @{$sent{$c} // []};

    give($c, $text =~ s/^INVITE/CANCEL/r =~ s/(CSeq: \d+ )INVITE/$1CANCEL/r)
        if $text;
}


sub in_dialog {
    my ($c) = @_;

    my $d = pick(@{$dialogs{pick(@clients, $c)} // []}) or return;
    my @routes = @{$d->{routes}};

    @routes = reverse @routes if chance(12);
    splice @routes, rand @routes, 1 if @routes && chance(12);
    splice @routes, rand @routes, 0, '<sip:127.0.0.1:22;lr>' if chance(12);

    give($c, $c->{ua}->request(pick(@methods), to => 'sip:bob@ims.example',
        ruri => 'sip:bob@192.0.2.1', call_id => $d->{call_id},
        from_tag => chance(15) ? 'y' : $d->{own_tag},
        to_tag => chance(15) ? 'y' : $d->{far_tag},
        cseq => 20 + int rand 1000,
        extra => [ (map { "Route: $_" } @routes),
                   grep { !/^(?:Record-)?Route/ } extra() ]));
}


sub answer {
    my ($c) = @_;

    my $m = pick(@{$got{chance(20) ? pick(@clients) : $c} // []}) or return;
    my $text = sip_reply($m, pick(@statuses), 'As It Likes',
        to_tag => 't' . int rand 5,
        contact => '<' . $c->{ua}->contact() . '>',
        extra => [ (map { "Record-Route: $_" } sip_headers($m, 'Record-Route')),
                   extra() ]);

    $text =~ s/^Via: .*\r\n//m if chance(25);
    $text =~ s/^(Via: .*)/$1\r\nVia: SIP\/2.0\/TCP 127.0.0.1:22/m if chance(25);
    give($c, $text);
}


sub refresh {
    my ($c) = @_;

    give($c, $c->{ua}->register(expires => pick((600) x 12, 0, 1, 7200),
        chance(8) ? (to => pick(@clients)->{id}{impu}) : (),
        chance(8) ? (authorization => '') : (),
        chance(8) ? (instance => 'urn:uuid:' . int rand 3) : (),
        extra => [ extra() ]));
}


# another connection of the same device

sub come_back {
    my ($c) = @_;

    $c->{ws}->drop() if chance(2);
    $got{$c} = [] unless chance(5);
    $c->connect();
    $c->send($c->{ua}->register());
}


sub leave {
    my ($c) = @_;

    chance(2) ? $c->{ws}->drop() : $c->{ws}->write(
        $c->{ws}->frame(pack('n', 1000), opcode => ImsWs::CLOSE));
    $got{$c} = [];
    $c->connect();
    $c->send($c->{ua}->register()) unless chance(3);
}


sub noise {
    my ($c) = @_;

    give($c, pick(@torture, "\r\n\r\n", "\r\n", '', 'x' x rand 5000));
}


sub frames {
    my ($c) = @_;

    my $ws = $c->{ws};
    my $text = $c->{ua}->request('OPTIONS', to => 'sip:bob@ims.example',
        call_id => 'frames' . int rand 1e6);

    pick(
        sub { $ws->write($ws->frame(substr($text, 0, 50), fin => 0)
                         . $ws->ping('x')
                         . $ws->frame(substr($text, 50), opcode => 0)) },
        sub { $ws->write($ws->frame($text) x 5) },
        sub { $ws->write($ws->frame($text, mask => 0)) },
        sub { $ws->write($ws->frame('', length => 2 ** 40)) },
        sub { $ws->write(substr $ws->frame($text), 0, rand 100) },
        sub { $ws->write($ws->frame($text, opcode => int rand 16)) },
    )->();
}


# -- the core -----------------------------------------------------------------

sub link_in {
    $in = $core->connect(port(8070))
        unless grep { $_ == $in } $core->links();

    return $in;
}


sub core_give {
    my ($text) = @_;

    $text = spoil($text) if chance(15);
    $core->send(pick(grep({ $_ } $core->links()), link_in()), $text);
}


sub core_initial {
    my ($c) = @_;

    my $text = ImsCall::core_request($c, pick(@methods),
        rr => [ map { "<sip:n$_\@127.0.0.1:" . port(8060) . ';lr>' }
                1 .. rand 3 ],
        chance(8) ? (to_tag => 'x') : (),
        chance(8) ? (route => "<$c->{path}>, <sip:more\@192.0.2.1;lr>") : (),
        branch => 'z9hG4bKi' . int rand 400, call_id => 'k' . int rand 200,
        from_tag => 'kf' . int rand 50, cseq => 1 + int rand 5,
        body => 'x' x rand 100, extra => ['Contact: <sip:bob@192.0.2.1>',
            'P-Asserted-Identity: <sip:bob@ims.example>',
            'P-Charging-Vector: icid-value=core', extra_of_core()]);

    push @invites, $text if $text =~ /^INVITE/;
    shift @invites if @invites > 40;
    core_give($text);
}


sub extra_of_core {
    return chance(4) ? pick('Privacy: id', 'Reason: X;cause=1',
        'Proxy-Require: y', 'P-Called-Party-ID: <sip:x@y>', 'Max-Forwards: 0',
        'P-Charging-Vector: icid-value="') : ();
}


sub core_cancel {
    my $text = pick(@invites) or return;
    my $method = pick(qw/ CANCEL CANCEL ACK /);

    core_give($text =~ s/^INVITE/$method/r
        =~ s/^(CSeq: \d+ )INVITE/$1$method/mr
        =~ s/^(To: <[^>]*>)/$1 . (chance(2) ? '' : ';tag=t1')/emr);
}


sub core_again { core_give(pick(@invites) // return) }


sub core_in_dialog {
    my ($c) = @_;

    my $d = pick(@{$dialogs{pick(@clients)} // []}) or return;

    core_give(ImsCall::core_request($c, pick(@methods),
        route => $d->{core_route}, from_tag => $d->{far_tag},
        to_tag => $d->{own_tag}, call_id => $d->{call_id},
        branch => 'z9hG4bKd' . int rand 1000, cseq => 1 + int rand 1000));
}


my @waiting;                # requests at the core: [message, link]

sub core_answer {
    my $at = int rand @waiting;
    my ($m, $link) = @{$waiting[$at] // return};

    splice @waiting, $at, 1 if chance(3);

    my $text = sip_reply($m, pick(@statuses), 'As It Likes',
        to_tag => 'w' . int rand 3, extra => [
            'Contact: ' . ($m->{method} eq 'REGISTER'
                ? sip_header($m, 'Contact') // '*' : '<sip:bob@192.0.2.1>'),
            "Record-Route: <sip:far\@127.0.0.1:" . port(8060) . ';lr>',
            (map { "Record-Route: $_" } sip_headers($m, 'Record-Route')),
            extra_of_core() ]);

    $text = spoil($text) if chance(12);
    $core->send(chance(4) ? link_in() : $link, $text);
}


sub core_noise {
    my $link = $core->connect(port(8070));

    $core->send($link, pick(@torture, "\r\n\r\n", "\0" x 100,
        "INVITE sip:x SIP/2.0\r\nContent-Length: " . int(rand 1e12)
        . "\r\n\r\n", 'x' x 20000, ImsCall::core_request(pick(@clients),
            'MESSAGE') x 3));
    $core->close($link) if chance(2);
}


sub core_close {
    my @links = $core->links() or return;

    $core->close(pick(@links));
}


# -- what comes of it ---------------------------------------------------------

sub look {
    while (my ($m, $link) = $core->request(0.002)) {
        at_core($m, $link) if $m;
    }

    for my $c (@clients) {
        while (defined(my $text = $c->{ws}->recv(0.002))) {
            my $m = sip_parse($text);
            at_client($c, $m) if $m;
        }

        if ($c->{ws}{close} || $c->{ws}{eof}) {
            $seen{'WebSocket closed'}++;
            $got{$c} = [];
            $c->connect();
            $c->send($c->{ua}->register());
        }
    }
}


sub at_core {
    my ($m, $link) = @_;

    my $what = $m->{method} // $m->{status};

    $wrong{"claim in $what"} = $m->{text} if $m->{text} =~ /marker/;
    $wrong{"address in $what"} = $m->{text}
        if $m->{text} =~ /^(?:Route|Path|Via):.*:22\b/m;

    if ($m->{status}) {
        $seen{'response at the core'}++;
        return;
    }

    $seen{'request at the core'}++;

    my @pai = sip_headers($m, 'P-Asserted-Identity');
    my $hop = $what =~ /^(?:ACK|CANCEL|REGISTER)$/;

    $wrong{"identity in $what"} = $m->{text}
        unless $hop ? !@pai
        : (@pai == 1 && $pai[0] =~ /^<(.*)>$/ && $whose{$1})
          || $m->{text} =~ /^CSeq: \d+ BYE.*\r\n\r\n\z/ms && !@pai;
    $wrong{"path of $what"} = $m->{text}
        if $what ne 'REGISTER' && sip_headers($m, 'Path');

    return if grep { !defined sip_header($m, $_) }
        qw/ Via From To Call-ID CSeq /;

    if ($what eq 'REGISTER') {
        my ($to) = sip_header($m, 'To') =~ /<([^>]*)>/;
        my ($path) = (sip_header($m, 'Path') // '') =~ /<([^>]*)>/;
        $whose{$to}{path} = $path if $to && $whose{$to} && $path;

        $wrong{'whose REGISTER'} = $m->{text}
            unless (sip_header($m, 'Authorization') // '')
                =~ /integrity-protected="auth-done"/;
        $core->reply($link, $m, 200, 'OK', extra => [
            'Service-Route: ' . ImsCall::service_route() ]) unless chance(8);
        return;
    }

    push @waiting, [$m, $link];
    shift @waiting if @waiting > 60;
}


sub at_client {
    my ($c, $m) = @_;

    if ($m->{status}) {
        $seen{'response at a client'}++;

        my @rr = ImsCall::values_of($m, 'Record-Route') or return;
        my ($own) = (sip_header($m, 'From') // '') =~ /;tag=([\w]+)/;
        my ($far) = (sip_header($m, 'To') // '') =~ /;tag=([\w]+)/;

        dialog($c, call_id => sip_header($m, 'Call-ID'), own_tag => $own,
            far_tag => $far, routes => [reverse @rr], core_route => $rr[-1]);
        return;
    }

    $seen{'request at a client'}++;

    $wrong{"to a client: $m->{method}"} = $m->{text}
        if grep { sip_headers($m, $_) } qw/ P-Charging-Vector Path /;

    return if grep { !defined sip_header($m, $_) }
        qw/ Via From To Call-ID CSeq /;

    push @{$got{$c}}, $m;
    shift @{$got{$c}} if @{$got{$c}} > 30;

    my @rr = ImsCall::values_of($m, 'Record-Route') or return;
    my ($far) = (sip_header($m, 'From') // '') =~ /;tag=([\w]+)/;

    dialog($c, call_id => sip_header($m, 'Call-ID'), far_tag => $far,
        own_tag => 't' . int rand 5, routes => \@rr, core_route => $rr[0]);
}


sub dialog {
    my ($c, %d) = @_;

    return if grep { !defined } values %d;

    push @{$dialogs{$c}}, \%d;
    shift @{$dialogs{$c}} if @{$dialogs{$c}} > 20;
}


sub workers {
    return sort split ' ', file("/proc/$master/task/$master/children");
}


sub file {
    my ($name) = @_;

    open my $f, '<:raw', $name or die "$name: $!\n";
    local $/;

    return scalar <$f>;
}

###############################################################################
